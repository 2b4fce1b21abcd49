from millrace.base.surfaces import N_SURFACES, Surface, surface_code


def test_codes_are_those_that_checkpoints_and_models_were_written_with() -> None:
    assert [surface.label for surface in Surface] == [
        "unknown",
        "home",
        "following",
        "profile",
        "search",
        "post",
        "notification",
        "other",
    ]
    assert [int(surface) for surface in Surface] == list(range(N_SURFACES))


def test_every_label_has_its_code_and_what_is_said_otherwise_is_understood() -> None:
    assert [surface_code(surface.label) for surface in Surface] == list(Surface)
    assert [surface_code(name) for name in ("", "HOME", " search ", "push", "thread", "tv_app")] == [
        Surface.UNKNOWN,
        Surface.HOME,
        Surface.SEARCH,
        Surface.NOTIFICATION,
        Surface.POST,
        Surface.OTHER,
    ]
