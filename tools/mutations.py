"""Small changes to a module's source, each of which a test should notice."""

import ast
from dataclasses import dataclass

COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is": "is not", "is not": "is"}
COMPARISONS |= {"in": "not in", "not in": "in"}
OPERATORS = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "%": "//", "**": "*", "&": "|", "|": "&"}
NAMES = {"max": "min", "amax": "amin", "argmax": "argmin", "maximum": "minimum", "any": "all", "floor": "ceil"}
NAMES |= {"sum": "mean", "nanmax": "nanmin", "cummax": "cummin"}
NAMES |= {after: before for before, after in NAMES.items()}
# Methods and functions of one argument that leave its shape as it is.
PLAIN = {"abs", "sqrt", "square", "exp", "log", "clamp", "clip", "softmax", "sigmoid", "tanh", "relu", "round", "roll"}
PLAIN |= {"flip", "sort", "sorted", "masked_fill", "nan_to_num", "detach", "normalize", "log10", "cumsum", "permute"}
UNSEEN = {"strict", "stacklevel"}  # arguments that change nothing where all is well
GUARD = 1e-4  # a smaller number keeps a division from failing, and may as well be another


@dataclass(frozen=True)
class Mutation:
    """A piece of source and what replaces it.

    Attributes:
        line: of the piece, from 1.
        function: qualified name of the function that it is in; "" outside of all.
        start, end: bytes of the piece.
        before, after: its text.
    """

    line: int
    function: str
    start: int
    end: int
    before: str
    after: str

    def applied(self, source: bytes) -> bytes:
        """The changed source."""
        return source[: self.start] + self.after.encode() + source[self.end :]


def mutations(source: bytes) -> list[Mutation]:
    """All changes that compile, in the order of the source."""
    walk = _Walk(source)
    walk.visit(ast.parse(source))
    return [mutation for mutation in walk.found if _compiles(mutation.applied(source))]


def _compiles(source: bytes) -> bool:
    try:
        compile(source, "changed", "exec")
    except SyntaxError:
        return False
    return True


class _Walk(ast.NodeVisitor):
    def __init__(self, source: bytes) -> None:
        self.source, self.found = source, []
        self.lines = [0]
        for line in source.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))
        self.scope: list[str] = []

    def replace(self, node: ast.AST, *afters: str) -> None:
        start = self.lines[node.lineno - 1] + node.col_offset
        end = self.lines[node.end_lineno - 1] + node.end_col_offset
        before = self.source[start:end].decode()
        for after in afters:
            self.found.append(Mutation(node.lineno, self.function, start, end, before, after))

    @property
    def function(self) -> str:
        """As ``__qualname__`` has it."""
        inside = len(self.scope) - 1 - self.scope[::-1].index("<locals>") if "<locals>" in self.scope else 0
        return ".".join(self.scope[:inside])

    def text(self, node: ast.AST) -> str:
        return f"({ast.unparse(node)})"

    # What is passed over: words for people, types, imports.

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None: ...

    def visit_Import(self, node: ast.Import) -> None: ...

    visit_ImportFrom = visit_Import

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        self.replace(node, "pass")

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outer, self.scope = self.scope, [*self.scope, node.name]
        for child in node.body:
            self.visit(child)
        self.scope = outer

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
            self.visit(default)
        outer = self.scope
        self.scope = [*outer, node.name, "<locals>"]
        for child in node.body:
            self.visit(child)
        self.scope = outer

    # Statements

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self.replace(node, "pass")
            self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.replace(node, "pass")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if isinstance(node.targets[0], ast.Subscript | ast.Attribute):
            self.replace(node, "pass")
        self.visit(node.value)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self.replace(node, "return None")
            self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if self.text(node.test) == "TYPE_CHECKING":
            return  # what is imported for the type checker alone
        self.replace(node.test, f"not {self.text(node.test)}")
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.replace(node, self.text(node.body), self.text(node.orelse))
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for condition in node.ifs:
            self.replace(condition, "True")
        self.generic_visit(node)

    # Expressions

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg not in UNSEEN:
            self.visit(node.value)

    def visit_Compare(self, node: ast.Compare) -> None:
        for i, operator in enumerate(node.ops):
            other = COMPARISONS[_symbol(operator)]
            changed = ast.Compare(node.left, [*node.ops[:i], _operator(other), *node.ops[i + 1 :]], node.comparators)
            self.replace(node, self.text(changed))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        self.replace(node, self.text(ast.BoolOp(other, node.values)))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        symbol = _symbol(node.op)
        if symbol in OPERATORS:
            self.replace(node, self.text(ast.BinOp(node.left, _operator(OPERATORS[symbol]), node.right)))
        if symbol in ("*", "@"):
            self.replace(node, f"(-{self.text(node)})")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        self.replace(node, self.text(node.operand))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.replace(node, str(not value))
        elif isinstance(value, int):
            self.replace(node, str(value + 1))
        elif isinstance(value, float) and not 0 < abs(value) < GUARD:
            self.replace(node, repr(value * 2 or 1.0))

    def visit_Call(self, node: ast.Call) -> None:
        for i, keyword in enumerate(node.keywords):
            if keyword.arg and keyword.arg not in UNSEEN:
                rest = [*node.keywords[:i], *node.keywords[i + 1 :]]
                self.replace(node, ast.unparse(ast.Call(node.func, node.args, rest)))
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in NAMES:
            other = NAMES[name]
            method = isinstance(node.func, ast.Attribute)
            func = ast.Attribute(node.func.value, other, ast.Load()) if method else ast.Name(other, ast.Load())
            self.replace(node, ast.unparse(ast.Call(func, node.args, node.keywords)))
        if name in PLAIN:
            of_module = isinstance(node.func, ast.Name) or getattr(node.func.value, "id", "") in ("np", "torch", "F")
            self.replace(node, self.text(node.args[0] if of_module else node.func.value))
        self.generic_visit(node)


def _symbol(operator: ast.AST) -> str:
    left, right = ast.Name("a"), ast.Name("b")
    compared = isinstance(operator, ast.cmpop)
    whole = ast.Compare(left, [operator], [right]) if compared else ast.BinOp(left, operator, right)
    return ast.unparse(whole)[2:-2]


def _operator(symbol: str) -> ast.AST:
    expression = ast.parse(f"a {symbol} b", mode="eval").body
    return expression.ops[0] if isinstance(expression, ast.Compare) else expression.op
