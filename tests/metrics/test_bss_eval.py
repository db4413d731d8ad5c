import numpy as np
import pytest

from avlearn.metrics.bss_eval import bss_eval, bss_eval_metrics, pairwise_bss_eval
from avlearn.metrics.separation import LIMIT

# mir_eval 0.8.2, separation.bss_eval_sources: SDR, SIR, SAR, order.
MIR_EVAL = {
    2: (
        [21.15490146917041, 12.153559954859919],
        [28.150214321491042, 12.617905616117193],
        [22.129243545198637, 22.324498207204662],
        [1, 0],
    ),
    3: (
        [19.89900869882783, 11.657894572819554, 15.385127050728089],
        [21.994222559806857, 11.892083011344432, 16.333945558377543],
        [24.09749147614579, 24.728855362535093, 22.556773226237738],
        [1, 2, 0],
    ),
    4: (
        [8.865995090999327, 12.01762345394885, 12.118847535528987, 13.280947821991536],
        [8.990933394497988, 12.184476660224854, 12.358183241599347, 13.847320208980634],
        [24.855185702080135, 26.51027143046528, 25.071004187071644, 22.583367639067255],
        [1, 2, 3, 0],
    ),
}


def tracks(sources: int) -> tuple[np.ndarray, np.ndarray]:
    """Tracks in another order, that leak, with noise and one of them 5 samples late; and their sources."""
    rng = np.random.default_rng(10 + sources)
    references = rng.random((sources, 3000)) - 0.5
    leak = 0.3 * rng.random((sources, sources)) + np.roll(np.eye(sources), 1, 0)
    estimates = leak @ references + 0.1 * (rng.random((sources, 3000)) - 0.5)
    estimates[0, 5:] = estimates[0, :-5]
    return estimates, references


@pytest.mark.parametrize("sources", MIR_EVAL)
def test_ratios_are_those_of_mir_eval(sources):
    found = bss_eval(*tracks(sources))
    for ratios, expected in zip(found, MIR_EVAL[sources], strict=True):
        np.testing.assert_allclose(ratios, expected, atol=1e-6)


def test_order_is_kept_when_asked():
    estimates, references = tracks(3)
    best = bss_eval(estimates, references)
    given = bss_eval(estimates, references, permute=False)
    assert given.order.tolist() == [0, 1, 2] and given.sir.mean() < best.sir.mean()
    sorted_first = bss_eval(estimates[best.order], references, permute=False)
    np.testing.assert_allclose(sorted_first.sdr, best.sdr, atol=1e-9)


def test_a_filter_of_512_taps_is_no_distortion():
    rng = np.random.default_rng(0)
    references = rng.normal(size=(2, 4000))
    references[:, -600:] = 0  # room for the echo
    echo = 0.7 * references + 0.5 * np.roll(references, 511, 1)
    late = 0.7 * references + 0.5 * np.roll(references, 530, 1)
    assert bss_eval(echo, references).sdr.min() > 99
    assert bss_eval(late, references).sdr.max() < 10


def test_silence_has_a_rule():
    estimates, references = tracks(3)
    two = bss_eval(estimates[[1, 2]], references[[0, 1]])
    silent = references.copy()
    silent[2] = 0
    estimates = estimates[[1, 2, 0]]
    third = bss_eval(estimates, silent)
    # Others are as if it were not listed; a track that sounds where nothing should is as bad as can be.
    np.testing.assert_allclose([r[:2] for r in third[:3]], two[:3], atol=1e-9)
    assert [r[2] for r in third[:3]] == [-LIMIT] * 3
    estimates[2] = 0
    assert [r[2] for r in bss_eval(estimates, silent)[:3]] == [LIMIT] * 3
    assert [r[2] for r in bss_eval(estimates, references, permute=False)[:3]] == [-LIMIT] * 3
    for both in ((0 * estimates, references), (estimates, 0 * references), (0 * estimates, 0 * references)):
        assert np.isfinite(np.stack(bss_eval(*both)[:3])).all()
    assert (bss_eval(0 * estimates, 0 * references).sdr == LIMIT).all()


def test_perfect_tracks_reach_the_limit_and_twins_are_solved():
    _, references = tracks(2)
    perfect = bss_eval(references, references)
    assert (perfect.sdr == LIMIT).all() and perfect.order.tolist() == [0, 1]
    twins = references[[0, 0]]
    noisy = twins + 0.1 * references[::-1]
    assert np.isfinite(np.stack(bss_eval(noisy, twins)[:3])).all()


def test_every_track_against_every_source():
    estimates, references = tracks(2)
    sdr, sir, sar = pairwise_bss_eval(estimates[[0, 1, 0]], references)
    assert sdr.shape == sir.shape == sar.shape == (3, 2)
    np.testing.assert_allclose(sdr[2], sdr[0])
    # What of a track neither source explains does not depend on which it is compared with.
    np.testing.assert_allclose(sar[:, 0], sar[:, 1])


def test_figures_stand_beside_the_mixture_and_leave_silence_out():
    estimates, references = tracks(2)
    stack = np.stack([estimates[::-1]] * 3)
    truth = np.stack([references] * 3)
    truth[1, 0] = 0
    sdr, sir, sar = bss_eval_metrics(stack, truth, "x")
    best = bss_eval(estimates, references)
    assert [f.name for f in (sdr, sir, sar)] == ["SDR, x", "SIR, x", "SAR, x"]
    assert (sdr.value, sir.value, sar.value) == pytest.approx([r.mean() for r in best[:3]])
    assert sdr.n == 2 and sdr.unit == "dB" and sdr.prior_name == "mixture"
    assert sdr.prior == pytest.approx(0, abs=1.5) and sar.prior == LIMIT
    assert sdr.chance < sdr.value
    with pytest.raises(ValueError, match="no item"):
        bss_eval_metrics(stack[1:2], truth[1:2])


def test_broken_tracks_are_refused():
    estimates, references = tracks(2)
    with pytest.raises(ValueError, match=r"\[K, S\]"):
        bss_eval(estimates[0], references[0])
    with pytest.raises(ValueError, match="finite"):
        bss_eval(np.full_like(estimates, np.nan), references)


def test_a_silent_reference_leaves_the_others_alone():
    estimates, references = tracks(2)
    silent = np.stack([references[0], np.zeros_like(references[0])])
    found, alone = pairwise_bss_eval(estimates, silent), pairwise_bss_eval(estimates, references[:1])
    for ratios, expected in zip(found, alone, strict=True):
        np.testing.assert_allclose(ratios[:, 0], expected[:, 0], atol=1e-9)
        assert (ratios[:, 1] == -LIMIT).all()
