def test_kit(tiny_kit):
    assert (tiny_kit / "kit.json").exists()
