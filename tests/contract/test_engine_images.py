"""What compute.engine.ContainerEngine promises of images, tried on the fake and on a real Docker Engine."""

import pytest

from compute.engine import EngineRefused, NoAnswer
from compute.spec import ImageSeen, Presence
from tests.contract.benches import EngineBench
from tests.contract.conftest import MakeSpec


def pull(bench: EngineBench) -> None:
    bench.engine.pull(bench.image, lambda done, total: None)


def seen(bench: EngineBench) -> ImageSeen | None:
    found = [image for image in bench.engine.list_images() if bench.image in image.names]
    assert len(found) <= 1
    return found[0] if found else None


def test_a_pulled_image_is_listed_by_the_reference_that_it_was_pulled_by(bench: EngineBench) -> None:
    pull(bench)

    image = seen(bench)

    assert image
    assert image.engine_id
    assert image.size_mib >= 0


def test_an_image_is_used_while_a_container_stands_on_it_even_one_that_was_never_started(
    bench: EngineBench, make_spec: MakeSpec
) -> None:
    pull(bench)
    before = seen(bench)
    spec = make_spec()
    bench.engine.create(spec)
    created = seen(bench)
    bench.engine.remove(spec.name)
    after = seen(bench)

    assert [image and image.used for image in (before, created, after)] == [False, True, False]


def test_an_image_that_nobody_uses_is_forgotten_and_once_more_is_success(bench: EngineBench) -> None:
    pull(bench)

    bench.engine.forget_image(bench.image)
    bench.engine.forget_image(bench.image)

    assert seen(bench) is None
    assert not bench.engine.has_image(bench.image)


def test_an_image_that_a_container_stands_on_is_not_forgotten(bench: EngineBench, make_spec: MakeSpec) -> None:
    pull(bench)
    spec = make_spec()
    bench.engine.make_network(spec)
    bench.engine.start(spec)
    bench.engine.stop(spec.name, grace_s=0)

    with pytest.raises(EngineRefused):
        bench.engine.forget_image(bench.image)

    assert bench.engine.has_image(bench.image)
    assert bench.engine.observe(spec.name).presence == Presence.EXITED


def test_of_an_engine_that_gives_no_answer_nothing_is_known(bench: EngineBench) -> None:
    engine = bench.unreachable()

    with pytest.raises(NoAnswer):
        engine.list_images()
    with pytest.raises(NoAnswer):
        engine.forget_image(bench.image)
