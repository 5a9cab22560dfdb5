"""Listening to a pipeline: what is heard, what is refused, and that nothing is left behind."""

import copy
import threading
from types import MethodType, SimpleNamespace

import diffusers
import numpy as np
import pytest
import tiny
import torch
from tiny import embedded

from reschrom.pipelines.chromatograph import Chromatograph
from reschrom.pipelines.coarse_first import CoarseFirst
from reschrom.pipelines.guidance import GuidanceSchedule
from reschrom.pipelines.steps import StepReader

# Some schedulers of diffusers turn tensors into arrays in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

TEXT = {"prompt_embeds": embedded(1), "negative_prompt_embeds": embedded(2)}


def stable_diffusion():
    return tiny.stable_diffusion(scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False))


def drawn(pipeline, **settings):
    usual = {"num_inference_steps": 3, "generator": torch.Generator().manual_seed(0), "output_type": "latent"}
    return pipeline(**(TEXT | usual | settings)).images


def measured(pipeline, **settings):
    with Chromatograph(pipeline, keep="bands") as meter:
        images = drawn(pipeline, **settings)
    return images, meter


@pytest.mark.lasting
@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_network_is_heard_and_draws_the_same(in_place, fullgraph):
    torch.compiler.reset()
    pipeline = stable_diffusion()
    plain, expected = measured(pipeline)
    if in_place:
        pipeline.unet.compile(backend="eager", fullgraph=fullgraph)
    else:
        pipeline.unet = torch.compile(pipeline.unet, backend="eager", fullgraph=fullgraph)
    before = pipeline.unet._compiled_call_impl if in_place else None
    images, meter = measured(pipeline)
    np.testing.assert_allclose(images, plain, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(meter.guidance.rates, expected.guidance.rates, rtol=1e-4)
    assert not pipeline.unet._forward_hooks
    assert not in_place or pipeline.unet._compiled_call_impl is before


class Around(torch.nn.Module):
    """A network within one of one's own, which hands on whatever it is given."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.config, self.dtype, self.device = inner, inner.config, inner.dtype, inner.device
        self.add_embedding = None

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)


class Handing(diffusers.DDIMScheduler):
    def step(self, *args, **kwargs):
        return super().step(*args, **kwargs)


def patched_network(pipeline):
    forward = pipeline.unet.forward
    pipeline.unet.forward = lambda *args, **kwargs: forward(*args, **kwargs)


def wrapped_network(pipeline):
    pipeline.unet = Around(pipeline.unet)


def patched_step(pipeline):
    step = pipeline.scheduler.step
    pipeline.scheduler.step = lambda *args, **kwargs: step(*args, **kwargs)


def step_of_another_object(pipeline):
    step = pipeline.scheduler.step
    pipeline.scheduler.step = MethodType(lambda self, *args, **kwargs: step(*args, **kwargs), object())


def scheduler_of_ones_own(pipeline):
    pipeline.scheduler = Handing.from_config(pipeline.scheduler.config)


@pytest.mark.parametrize(
    "patch", [patched_network, wrapped_network, patched_step, step_of_another_object, scheduler_of_ones_own]
)
def test_what_takes_anything_in_the_place_of_a_method_is_heard_as_the_method(patch):
    plain, pipeline = stable_diffusion(), stable_diffusion()
    patch(pipeline)
    (expected, meant), (images, meter) = measured(plain), measured(pipeline)
    np.testing.assert_array_equal(images, expected)
    assert meter.branches == meant.branches == ("unconditional", "conditional")
    for ours, theirs in zip(meter.kept, meant.kept, strict=True):
        np.testing.assert_array_equal(ours.estimate, theirs.estimate)
        np.testing.assert_array_equal(ours.guidance, theirs.guidance)
    drawings = []
    for each in (plain, pipeline):
        with GuidanceSchedule(each, lambda t: 0.5 * (t > 0.5)):
            drawings.append(drawn(each))
    np.testing.assert_allclose(drawings[1], drawings[0], rtol=0, atol=1e-5)


class Adapted(Around):
    """A network with adapters, as PEFT wraps it."""

    def get_base_model(self):
        return self.inner


def test_a_network_that_peft_wrapped_is_known_by_its_own_arguments():
    plain, pipeline = stable_diffusion(), stable_diffusion()
    pipeline.unet = Adapted(pipeline.unet)
    drawings, skipped = [], []
    for each in (plain, pipeline):
        with GuidanceSchedule(each, 0.0) as block:
            drawings.append(drawn(each))
        skipped.append(block.skipped)
        with CoarseFirst(each, [0.5, 1.0, 2.0, 4.0], turning_points=[600.0]):
            drawings.append(drawn(each))
    assert skipped[0] == skipped[1] > 0
    for expected, found in zip(drawings[:2], drawings[2:], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_step_without_the_usual_names_is_refused():
    pipeline = stable_diffusion()
    step = pipeline.scheduler.step
    pipeline.scheduler.step = lambda noise, timestep, x, **kwargs: step(noise, timestep, x, **kwargs)
    with pytest.raises(ValueError, match=r"`step` of DDIMScheduler must name .*; it has no model_output and no sample"):
        measured(pipeline)


def test_a_scheduler_that_is_replaced_inside_the_block_is_followed():
    pipeline = stable_diffusion()
    first, second = pipeline.scheduler, diffusers.DDIMScheduler(steps_offset=1, clip_sample=False)
    with Chromatograph(pipeline) as meter:
        pipeline.scheduler = second
        drawn(pipeline)
    assert meter.images == 1
    assert meter.timesteps.tolist() == second.timesteps.tolist()
    for scheduler in (first, second):
        assert not {"step", "set_timesteps"} & vars(scheduler).keys()


def test_two_meters_of_one_pipeline_hear_the_same():
    pipeline = stable_diffusion()
    with Chromatograph(pipeline) as one, Chromatograph(pipeline) as other:
        drawn(pipeline)
    assert np.array_equal(one.guidance.rates, other.guidance.rates)
    assert one.branches == other.branches == ("unconditional", "conditional")


def test_a_meter_is_not_opened_twice():
    meter = Chromatograph(tiny.ddim())
    with meter, pytest.raises(ValueError, match="open already"), meter:
        raise AssertionError


def test_another_thread_is_refused():
    pipeline, raised = tiny.ddim(), []

    def draw():
        try:
            pipeline(batch_size=1, num_inference_steps=2, output_type="np")
        except ValueError as error:
            raised.append(str(error))

    with Chromatograph(pipeline):
        thread = threading.Thread(target=draw)
        thread.start()
        thread.join()
    assert len(raised) == 1
    assert "in the thread that opened the block" in raised[0]


@pytest.mark.lasting
def test_a_property_that_is_read_in_the_middle_of_a_run_does_not_split_it():
    pipeline, seen = stable_diffusion(), []
    plain = measured(pipeline)[1]

    def look(_, step, timestep, inputs):
        seen.append((meter.images, len(meter.timesteps), len(meter.kept)))
        return inputs

    with Chromatograph(pipeline, keep="bands") as meter:
        drawn(pipeline, callback_on_step_end=look)
        drawn(pipeline, callback_on_step_end=look)
    # Of the second run no step counts until it has them all.
    assert seen == [(1, 1, 1), (1, 2, 2), (1, 3, 3), (1, 3, 3), (1, 3, 3), (2, 3, 6)]
    assert meter.images == 2
    np.testing.assert_allclose(meter.guidance.rates, plain.guidance.rates, rtol=1e-12)


@pytest.mark.lasting
@pytest.mark.parametrize("first", [True, False])
def test_a_run_that_is_broken_off_inside_the_block_is_not_counted(first):
    pipeline = stable_diffusion()
    plain = measured(pipeline)[1]

    def fail(_, step, *__):
        if step == 1:
            raise RuntimeError("stop")
        return {}

    with Chromatograph(pipeline, keep="bands") as meter:
        if not first:
            drawn(pipeline)
        with pytest.raises(RuntimeError, match="stop"):
            drawn(pipeline, callback_on_step_end=fail)
        if first:
            drawn(pipeline)
    assert (meter.images, len(meter.kept)) == (1, 3)
    np.testing.assert_allclose(meter.guidance.rates, plain.guidance.rates, rtol=1e-12)


@pytest.mark.lasting
def test_guidance_that_is_switched_off_midway_covers_the_steps_before():
    pipeline = stable_diffusion()

    def off(pipe, step, timestep, inputs):
        if step == 1:
            pipe._guidance_scale = 0.0
            inputs["prompt_embeds"] = inputs["prompt_embeds"].chunk(2)[1]
        return inputs

    settings = {"num_inference_steps": 4, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    _, meter = measured(pipeline, callback_on_step_end=off, **settings)
    whole = measured(pipeline, num_inference_steps=4)[1]
    assert [record.guidance is None for record in meter.kept] == [False, False, True, True]
    assert len(meter.growth.times) == 3
    np.testing.assert_allclose(meter.guidance.rates, whole.guidance.rates[:, 2:], rtol=1e-5)
    np.testing.assert_allclose(meter.guidance.edges, whole.guidance.edges[2:])


def test_guidance_that_is_switched_off_and_on_is_refused():
    pipeline = stable_diffusion()

    def off(pipe, step, timestep, inputs):
        pipe._guidance_scale = 0.0 if step == 0 else 7.5
        both = TEXT["negative_prompt_embeds"], TEXT["prompt_embeds"]
        inputs["prompt_embeds"] = both[1] if step == 0 else torch.cat(both)
        return inputs

    _, meter = measured(pipeline, callback_on_step_end=off, callback_on_step_end_tensor_inputs=["prompt_embeds"])
    with pytest.raises(ValueError, match="off and on again"):
        _ = meter.guidance


@pytest.mark.lasting
def test_the_layout_of_guidance_can_be_stated():
    pipeline = stable_diffusion()
    mixed = {"guidance_scale": 7.5}
    for names in (("unconditional", "conditional"), ("conditional", "unconditional")):
        with Chromatograph(pipeline, keep="bands", guidance=names) as meter:
            drawn(pipeline, **mixed)
        rows = meter.kept[0].guidance
        plain = measured(pipeline)[1].kept[0].guidance
        np.testing.assert_allclose(rows, plain if names[1] == "conditional" else -plain, rtol=1e-5, atol=1e-6)
    with Chromatograph(pipeline, guidance=("unconditional", "conditional")) as meter:
        drawn(pipeline, guidance_scale=0.0)  # one row needs no names
    assert meter.images == 1
    with (
        pytest.raises(ValueError, match="names 3 rows; the pipeline predicts 2"),
        Chromatograph(pipeline, guidance=("perturbed", "unconditional", "conditional")),
    ):
        drawn(pipeline)
    for wrong in (("conditional", "negative"), ("unconditional",)):
        with pytest.raises(ValueError, match="guidance= names the branch of each row"):
            Chromatograph(pipeline, guidance=wrong)
    with pytest.raises(ValueError, match="names one row conditional, because one is measured"):
        Chromatograph(pipeline, guidance=("unconditional", "conditional", "conditional"))


class Network(torch.nn.Module):
    """A network that does as it is told."""

    def __init__(self, predict):
        super().__init__()
        self.predict = predict

    def forward(self, sample, timestep, words=None):
        return (self.predict(sample, timestep),)


def loop(predict, change=lambda noise: noise, shown=lambda x: x, steps=2, shape=(1, 3, 4, 4)):
    """Return a pipeline of one's own: its network, its scheduler, and the loop that draws."""
    pipeline = SimpleNamespace(unet=Network(predict), scheduler=diffusers.DDIMScheduler())

    def draw(runs=1):
        for _ in range(runs):
            x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
            for t in pipeline.scheduler.timesteps:
                x = pipeline.scheduler.step(change(pipeline.unet(shown(x), t)[0]), t, x).prev_sample
        return x

    pipeline.scheduler.set_timesteps(steps)
    return pipeline, draw


def test_a_loop_of_ones_own_is_measured_run_by_run():
    pipeline, draw = loop(lambda x, t: x)
    for steps in (1, 3):
        pipeline.scheduler.set_timesteps(steps)
        with Chromatograph(pipeline) as meter:
            draw(runs=2)
        assert (meter.images, len(meter.timesteps)) == (2, steps)


@pytest.mark.parametrize("runs", [1, 2])
def test_a_step_without_noise_draws_nothing_and_is_none(runs):
    pipeline, draw = loop(lambda x, t: x)
    pipeline.scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    told = []
    for sigmas in ([0.9, 0.6, 0.3], [0.9, 0.6, 0.3, 0.0]):
        with Chromatograph(pipeline) as meter:
            for _ in range(runs):
                pipeline.scheduler.set_timesteps(sigmas=sigmas)
                draw()
        told.append(meter)
    plain, longer = told
    np.testing.assert_array_equal(longer.timesteps, plain.timesteps)
    np.testing.assert_array_equal(longer.growth.rates, plain.growth.rates)
    assert longer.images == plain.images == runs


def test_a_shorter_run_is_refused_where_a_step_without_noise_ends_both():
    pipeline, draw = loop(lambda x, t: x)
    pipeline.scheduler = diffusers.FlowMatchEulerDiscreteScheduler()

    def both():
        for sigmas in ([0.9, 0.6, 0.0], [0.9, 0.6, 0.3, 0.0]):
            pipeline.scheduler.set_timesteps(sigmas=sigmas)
            draw()

    with pytest.raises(ValueError, match="the same timesteps"), Chromatograph(pipeline):
        both()


@pytest.mark.parametrize("kind", [diffusers.DDIMInverseScheduler, diffusers.DPMSolverMultistepInverseScheduler])
def test_inversion_from_image_to_noise_is_refused(kind):
    pipeline, draw = loop(lambda x, t: x)
    pipeline.scheduler = kind()
    pipeline.scheduler.set_timesteps(3)
    message = f"{kind.__name__} goes from image to noise, so that nothing is generated"
    with pytest.raises(ValueError, match=message), Chromatograph(pipeline):
        draw()


def test_guidance_in_place_changes_nothing_of_what_was_heard():
    common = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    words = torch.tensor([[0.0], [1.0]])
    pipeline, _ = loop(None)
    pipeline.unet.predict = lambda x, t: torch.cat([common, common + 0.1 * x[1:]])
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with Chromatograph(pipeline, keep="bands") as meter:
        for t in pipeline.scheduler.timesteps:
            before = x.clone()
            unconditional, conditional = pipeline.unet(torch.cat([x, x]), t, words)[0].chunk(2)
            conditional.sub_(unconditional).mul_(5).add_(unconditional)
            x.copy_(pipeline.scheduler.step(conditional, t, x).prev_sample)
            np.testing.assert_allclose(meter.kept[-1].guidance, 0.1 * before, rtol=1e-4, atol=1e-5)


def guided_loop(combined, order):
    """Return a pipeline of one's own that predicts twice, and what draws: `combined(u, c, step)` goes on."""
    pipeline, _ = loop(lambda x, t, w: x * (0.3 + 0.2 * w[:, :, None, None]) + w[:, :, None, None], steps=3)
    pipeline.unet.forward = lambda sample, timestep, words: (pipeline.unet.predict(sample, timestep, words),)
    pipeline.scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    words = torch.tensor([[0.0], [1.0]])[list(order)]

    def draw(runs=1):
        for _ in range(runs):
            pipeline.scheduler.set_timesteps(sigmas=[0.9, 0.6, 0.3])
            (x,) = drawn_from(0)
            for step, t in enumerate(pipeline.scheduler.timesteps):
                rows = pipeline.unet(torch.cat([x, x]), t, words)[0].chunk(2)
                given = combined(rows[order.index(0)], rows[order.index(1)], step)
                x = pipeline.scheduler.step(given, t, x, return_dict=False)[0]
        return x

    return pipeline, draw


def zero_at_first(unconditional, conditional, step):
    return unconditional + (3 * (conditional - unconditional)) if step else 0 * conditional


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_step_that_is_given_zeros_tells_nothing_of_its_predictions(order):
    """As CFG-Zero* begins: which row is which has to be found in the steps after."""
    pipeline, draw = guided_loop(zero_at_first, order)
    plain = draw()
    with Chromatograph(pipeline, keep="bands") as meter:
        assert torch.equal(draw(runs=2), plain)
    assert meter.branches == tuple(("unconditional", "conditional")[number] for number in order)
    np.testing.assert_allclose(meter.timesteps, [600, 300])
    assert meter.images == 2
    for record in meter.kept:
        # Of a flow, the noise is the velocity times 1 - sigma, and what it does not depend on.
        signal = 1 - record.timestep / 1000
        np.testing.assert_allclose(record.guidance, signal * (0.2 * record.x_t + 1), rtol=1e-4)


def test_guidance_by_zeros_stays_zero():
    pipeline, draw = guided_loop(zero_at_first, (0, 1))
    with GuidanceSchedule(pipeline, 0.5):
        weighed = draw()
    _, half = guided_loop(lambda u, c, step: c + 0.5 * 2 * (c - u) if step else 0 * c, (0, 1))
    np.testing.assert_allclose(weighed, half(), rtol=1e-5)


def test_a_run_may_begin_with_zeros():
    pipeline, _ = guided_loop(None, (0, 1))
    (common,) = drawn_from(1)
    pipeline.unet.predict = lambda x, t, words: x + common + words[:, :, None, None]
    pipeline.scheduler.set_timesteps(sigmas=[0.9, 0.6])
    x, words = torch.zeros(1, 3, 4, 4), torch.tensor([[0.0], [1.0]])
    with Chromatograph(pipeline, keep="bands") as meter:
        for t in pipeline.scheduler.timesteps:
            unconditional, conditional = pipeline.unet(torch.cat([x, x]), t, words)[0].chunk(2)
            x = pipeline.scheduler.step(3 * conditional - 2 * unconditional, t, x, return_dict=False)[0]
    np.testing.assert_allclose(meter.kept[0].guidance, 0.1, rtol=1e-5)
    assert meter.branches == ("unconditional", "conditional")


def test_a_difference_of_predictions_is_refused():
    pipeline, draw = guided_loop(lambda u, c, step: c - u, (0, 1))
    with pytest.raises(ValueError, match="is a difference of predictions, which is none"), Chromatograph(pipeline):
        draw()


def drawn_from(*seeds, shape=(1, 3, 4, 4)):
    return [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]


def test_an_image_that_is_stepped_twice_is_one():
    """As DiT has it: both halves of the batch are the same image, and are stepped by the same guided prediction."""
    x, conditional, unconditional = drawn_from(0, 1, 2)
    pipeline, _ = loop(lambda x, t: torch.cat([conditional, unconditional]))
    both = torch.cat([x, x])
    with Chromatograph(pipeline, keep="bands") as meter:
        for t in pipeline.scheduler.timesteps:
            pipeline.unet(both, t, torch.tensor([[1.0], [0.0]]))
            guided = unconditional + 4 * (conditional - unconditional)
            both = pipeline.scheduler.step(torch.cat([guided, guided]), t, both).prev_sample
    assert (meter.images, meter.branches) == (1, ("conditional", "unconditional"))
    for record in meter.kept:
        np.testing.assert_allclose(record.guidance, conditional - unconditional, rtol=1e-5, atol=1e-6)


class Tokens(Network):
    """A network of tokens, which is told where they stand."""

    def forward(self, hidden_states, timestep, img_ids):
        return (self.predict(hidden_states, timestep),)


@pytest.mark.parametrize("last", [False, True])
def test_tokens_are_found_where_they_explain_what_is_stepped(last):
    """The network predicts more tokens than are stepped, and not as many as it is shown."""
    x, prediction, more, text = (each[0] for each in map(drawn_from, (0, 1, 2, 3)))
    pack = lambda latents: latents.flatten(2).transpose(1, 2)  # noqa: E731
    beside = lambda image, others: torch.cat([others, image] if last else [image, others], dim=1)  # noqa: E731
    places = torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(4.0))
    pipeline, _ = loop(None)
    pipeline.unet, pipeline._pack_latents = Tokens(lambda *_: beside(pack(prediction), pack(text)[:, :1])), pack
    with Chromatograph(pipeline, keep="bands") as meter:
        for t in pipeline.scheduler.timesteps:
            told = beside(places[None], 1 + places[None, :2])[0]
            pipeline.unet(beside(pack(x), pack(more)[:, :2]), t, img_ids=told)
            before, tokens = x, pipeline.scheduler.step(pack(prediction), t, pack(x)).prev_sample
            x = tokens.transpose(1, 2).unflatten(2, (4, 4))
            np.testing.assert_allclose(meter.kept[-1].x_t, before, rtol=1e-5, atol=1e-6)
    alpha = float(pipeline.scheduler.alphas_cumprod[500])
    expected = (meter.kept[0].x_t - (1 - alpha) ** 0.5 * prediction.numpy()) / alpha**0.5
    np.testing.assert_allclose(meter.kept[0].estimate, np.clip(expected, -1, 1), rtol=1e-4, atol=1e-5)


def test_predictions_that_do_not_differ_leave_their_names_open():
    """The prompt is the negative prompt in the first step, and comes first afterwards."""
    x, conditional, unconditional = drawn_from(0, 1, 2)
    rows = iter([(conditional, conditional), (conditional, unconditional)])
    pipeline, _ = loop(lambda x, t: torch.cat(next(rows)))
    with Chromatograph(pipeline, keep="bands") as meter:
        for t in pipeline.scheduler.timesteps:
            one, two = pipeline.unet(torch.cat([x, x]), t, torch.tensor([[1.0], [0.0]]))[0].chunk(2)
            x = pipeline.scheduler.step(two + 4 * (one - two), t, x).prev_sample
    assert not meter.kept[0].guidance.any()
    assert meter.branches == ("conditional", "unconditional")
    np.testing.assert_allclose(meter.kept[1].guidance, conditional - unconditional, rtol=1e-5, atol=1e-6)


def test_evaluations_between_two_steps_are_no_steps():
    pipeline, _ = loop(lambda x, t: drawn_from(int(t))[0])
    pipeline.scheduler = scheduler = diffusers.HeunDiscreteScheduler()
    scheduler.set_timesteps(3)
    (x,), shown = drawn_from(0), []
    x = x * scheduler.init_noise_sigma
    with Chromatograph(pipeline, keep="bands") as meter:
        for t in scheduler.timesteps:
            shown.append(scheduler.scale_model_input(x, t))
            x = scheduler.step(pipeline.unet(shown[-1], t)[0], t, x).prev_sample
    assert len(shown) == 5
    np.testing.assert_allclose(meter.timesteps, scheduler.timesteps[::2], rtol=1e-6)
    for record, seen in zip(meter.kept, shown[::2], strict=True):
        np.testing.assert_allclose(record.x_t, seen, rtol=1e-5, atol=1e-6)


def test_pndm_begins_with_steps_of_four_evaluations():
    pipeline, _ = loop(lambda x, t: drawn_from(int(t))[0])
    pipeline.scheduler = scheduler = diffusers.PNDMScheduler(beta_schedule="scaled_linear")
    scheduler.set_timesteps(6)
    (x,), shown = drawn_from(0), []
    with Chromatograph(pipeline, keep="bands") as meter:
        for t in scheduler.timesteps:
            shown.append(x)
            x = scheduler.step(pipeline.unet(x, t)[0], t, x).prev_sample
    # three steps of four evaluations, two of which are half way, and then those of one
    assert len(shown) == 15
    np.testing.assert_array_equal(meter.timesteps, [830, 664, 498, 332, 166, 0])
    for record, seen in zip(meter.kept, [*shown[:12:4], *shown[12:]], strict=True):
        np.testing.assert_allclose(record.x_t, seen, rtol=1e-5, atol=1e-6)


def velocity(x, estimate, sigma):
    return (x - estimate) / sigma


def noise(x, estimate, sigma):
    return (x - (1 - sigma**2) ** 0.5 * estimate) / sigma


@pytest.mark.parametrize(
    ("scheduler", "converted"),
    [
        (diffusers.FlowMatchEulerDiscreteScheduler(), velocity),
        (diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing"), noise),
    ],
)
def test_a_network_that_estimates_the_image_is_read_whatever_its_pipeline_makes_of_that(scheduler, converted):
    pipeline, _ = loop(lambda x, t: drawn_from(int(t))[0])
    pipeline.scheduler = scheduler
    scheduler.set_timesteps(3)
    (x,) = drawn_from(0)
    with Chromatograph(pipeline, keep="bands") as meter:
        for index, t in enumerate(scheduler.timesteps):
            sigma = scheduler.sigmas[index] if converted is velocity else (1 - scheduler.alphas_cumprod[t]) ** 0.5
            x = scheduler.step(converted(x, pipeline.unet(x, t)[0], sigma), t, x).prev_sample
    for record, t in zip(meter.kept, scheduler.timesteps, strict=True):
        np.testing.assert_allclose(record.estimate, drawn_from(int(t))[0], rtol=1e-3, atol=1e-3)


def other(x):
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(9))


def test_an_estimate_that_is_not_finite_is_refused():
    pipeline, draw = loop(lambda x, t: x)
    pipeline.scheduler = diffusers.DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    pipeline.scheduler.set_timesteps(2)
    with pytest.raises(ValueError, match="timestep 999 there is no signal"), Chromatograph(pipeline):
        draw()
    pipeline, draw = loop(lambda x, t: 1e30 * x)
    pipeline.scheduler.register_to_config(clip_sample=False)
    with pytest.raises(ValueError, match="the estimate at timestep 500 is not finite"), Chromatograph(pipeline):
        draw()


REFUSED = {
    "another number of axes": (
        lambda: loop(lambda x, t: x.reshape(1, 3, 4, 4), shown=lambda x: x.flatten(1)),
        "is not shown what",
    ),
    "never steps": (lambda: (loop(lambda x, t: x)[0],) * 2, "never called `scheduler.step`"),
    "another source": (lambda: loop(lambda x, t: x, change=other), "is no combination of what its denoiser predicts"),
    "another image": (lambda: loop(lambda x, t: x, shown=other), "is not shown what its scheduler steps"),
    "another scale": (lambda: loop(lambda x, t: x, shown=lambda x: 3 * x), "is not shown what its scheduler steps"),
    "fewer rows": (
        lambda: loop(lambda x, t: x[:1], shape=(2, 3, 4, 4), change=lambda n: n.repeat(2, 1, 1, 1)),
        "are no rows",
    ),
    "another shape": (
        lambda: loop(lambda x, t: x[..., :2, :2], change=lambda n: n.repeat(1, 1, 2, 2)),
        r"predicts the shapes \[\(1, 3, 2, 2\)\], which are no rows of what its scheduler steps, \(1, 3, 4, 4\)",
    ),
    "no tensor": (
        lambda: loop(lambda x, t: "noise", change=lambda n: torch.zeros(1, 3, 4, 4)),
        "returns them; got str",
    ),
    "no number": (lambda: loop(lambda x, t: x * torch.nan), "the prediction at timestep 500 is not finite"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_placed_is_refused(name):
    made, message = REFUSED[name]
    pipeline, draw = made()
    if name == "never steps":
        draw = lambda: pipeline.unet(torch.zeros(1, 3, 4, 4), 0)  # noqa: E731
    with pytest.raises(ValueError, match=message), Chromatograph(pipeline):
        draw()
    assert not {"step", "set_timesteps"} & vars(pipeline.scheduler).keys()


def test_times_that_go_back_and_forth_are_refused():
    pipeline, draw = loop(lambda x, t: x, steps=4)
    pipeline.scheduler.timesteps = torch.tensor([750, 500, 750, 500, 250, 0])
    with pytest.raises(ValueError, match="back and forth in time"), Chromatograph(pipeline):
        draw()


def test_a_copy_of_the_scheduler_steps_by_itself():
    pipeline, _ = loop(lambda x, t: x)
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    plain = pipeline.scheduler.step(x, pipeline.scheduler.timesteps[0], x).prev_sample
    with Chromatograph(pipeline) as meter:
        mine = copy.deepcopy(pipeline.scheduler)
        mine.set_timesteps(5)
        assert len(pipeline.scheduler.timesteps) == 2
        pipeline.unet(x, pipeline.scheduler.timesteps[0])
        mine.step(x, mine.timesteps[0], x)
        assert torch.equal(pipeline.scheduler.step(x, pipeline.scheduler.timesteps[0], x).prev_sample, plain)
    assert meter.images == 1


def test_lists_of_tensors_are_batches():
    taken = []
    pipeline, _ = loop(lambda x, t: [each[:, None] for each in x])
    reader = StepReader(pipeline, taken.append)
    reader.open()
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    output = pipeline.unet(list(x[:, :, None]), pipeline.scheduler.timesteps[0], words=[torch.ones(2), torch.ones(3)])[
        0
    ]
    pipeline.scheduler.step(torch.stack(output).squeeze(2).reshape(2, 3, 4, 4), pipeline.scheduler.timesteps[0], x)
    reader.close()
    assert len(taken) == 1
    assert taken[0].x_t.shape == x.shape


@pytest.mark.lasting
@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_a_modular_pipeline_and_its_guider_are_read_like_others(rescale):
    whole, blocks = tiny.stable_diffusion_xl(), diffusers.StableDiffusionXLAutoBlocks()
    blocks.sub_blocks.pop("text_encoder")  # what it would make is given
    pipeline = blocks.init_pipeline()
    guider = diffusers.ClassifierFreeGuidance(guidance_scale=4.0, guidance_rescale=rescale)
    pipeline.update_components(unet=whole.unet, vae=whole.vae, scheduler=whole.scheduler, guider=guider)
    pooled = {"pooled_prompt_embeds": embedded(3)[:, 0], "negative_pooled_prompt_embeds": embedded(4)[:, 0]}

    def draw():
        return pipeline(
            **TEXT,
            **pooled,
            num_inference_steps=3,
            height=16,
            width=16,
            generator=torch.Generator().manual_seed(0),
            output="latents",
        )

    plain, heard = draw(), []
    hook = whole.unet.register_forward_hook(lambda module, args, output: heard.append(output[0]))
    with Chromatograph(pipeline, keep="bands") as meter:
        assert torch.equal(draw(), plain)
    hook.remove()
    # The guider calls the network once for each condition, the conditional one first.
    for conditional, unconditional, record in zip(heard[::2], heard[1::2], meter.kept, strict=True):
        np.testing.assert_allclose(record.guidance, conditional - unconditional, rtol=1e-5, atol=1e-6)
