"""A network that answers from memory says what it would have said, and computes only what is new."""

import tiny
import torch

from reschrom.companion.memory import remembered


def test_only_what_is_new_is_computed_and_all_of_it_is_right():
    network, computed = tiny.conditional_unet(3, 3), []
    forward = network.forward
    next(iter(network.children())).register_forward_hook(lambda *_: computed.append(1))
    x, text = torch.randn(2, 3, 8, 8), torch.randn(2, 4, tiny.TEXT)
    nudged = x.clone()
    nudged[1, 2, 3, 4] += 1e-6
    inputs = [(x, 5, text), (x, 6, text), (x, 5, 2 * text), (nudged, 5, text), (x[:1], 5, text[:1])]
    with torch.no_grad():
        expected = [network(*each, return_dict=False)[0] for each in inputs]
        computed.clear()
        with remembered(network):
            for _ in range(2):
                for each, one in zip(inputs, expected, strict=True):
                    (found,) = network(*each, return_dict=False)
                    assert torch.equal(found, one)
                    found.zero_()  # whoever is answered may use the memory of the answer
    assert len(computed) == len(inputs)
    assert network.forward == forward
