"""The social encoder in torch: it computes what NumPy serves."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from millrace.features.follow_edges import FollowEdges  # noqa: E402 - after the check that torch is there
from millrace.features.social_network import Degrees, UserContent, user_inputs  # noqa: E402
from millrace.features.social_vectors import SocialVectors  # noqa: E402
from millrace.flywheel.neighbour_sampling import NeighbourSampler  # noqa: E402
from millrace.flywheel.train_social import on_device  # noqa: E402
from millrace.models.social import SocialConfig, SocialEncoder, follow_loss  # noqa: E402


def test_with_all_neighbours_torch_and_numpy_agree() -> None:
    rng = np.random.default_rng(0)
    edges = FollowEdges.of(rng.integers(0, 200, size=3_000), rng.integers(0, 200, size=3_000))
    known = UserContent(rng.normal(size=(edges.n_users, 64)).astype(np.float32))
    encoder = SocialEncoder(SocialConfig(fanouts=(10_000, 10_000, 10_000), seed=4))
    degrees = Degrees(edges.n_following, edges.n_followers)
    inputs = torch.from_numpy(user_inputs(edges.user_ids, degrees, known, encoder.shape))
    users = rng.permutation(edges.n_users)
    sample = NeighbourSampler(edges, (10_000, 10_000, 10_000)).draw(users, rng)
    with torch.no_grad():
        given = encoder(inputs[torch.from_numpy(sample.users)], [on_device(block, "cpu") for block in sample.blocks])
        scores = encoder.follow_scores(given[:5], given)
    vectors = SocialVectors(encoder.network())
    vectors.refresh(edges, known)
    served = vectors.vectors(edges.user_ids[users])[0]
    assert np.abs(served - given.numpy()).max() < 1e-5
    assert np.abs(vectors.network.follow_scores(served[:5], served) - scores.numpy()).max() < 1e-4


def test_the_seed_decides_the_first_weights_and_nothing_else_does() -> None:
    torch.manual_seed(1)
    one = SocialEncoder(SocialConfig(seed=3)).network()
    torch.manual_seed(2)
    other, third = SocialEncoder(SocialConfig(seed=3)).network(), SocialEncoder(SocialConfig(seed=4)).network()
    assert one.weights["layers.1.weight"].tolist() == other.weights["layers.1.weight"].tolist()
    assert one.weights["layers.1.weight"].tolist() != third.weights["layers.1.weight"].tolist()


def test_the_loss_is_the_softmax_over_candidates_that_are_negatives_corrected_for_their_frequency() -> None:
    scores = torch.log(torch.tensor([[6.0, 2.0, 4.0, 100.0]]))
    frequencies = torch.log(torch.tensor([1.0, 0.5, 0.25, 1.0]))
    is_left_out = torch.tensor([[False, False, False, True]])
    loss = follow_loss(scores, torch.tensor([0]), frequencies, is_left_out)
    assert float(loss) == pytest.approx(-np.log(6 / (6 + 4 + 16)))
