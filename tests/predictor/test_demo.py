"""The command of tools/demo.py: what it reads, what it writes, and how it fails."""

import importlib.util
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mtl_d2.data import BrokenSampleError
from mtl_d2.predictor import run
from mtl_d2.predictor.inputs import VideoReader, find_inputs

SCRIPT = Path(__file__).parents[2] / "tools" / "demo.py"
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (64, 72, 3), dtype=np.uint8)


@pytest.fixture
def demo(cfg, weights, tmp_path, monkeypatch):
    """Call it with words; they are looked up from a folder of its own."""
    spec = importlib.util.spec_from_file_location("demo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(cfg.dump())

    def call(*words, weights=weights):
        options = ["--config-file", "config.yaml", "--weights", str(weights), "--output", "out"]
        monkeypatch.setattr("sys.argv", ["demo.py", *words, *options])
        return module.main()

    return call


def _write_video(path, frames=4, size=(64, 48), fps=12.0):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
    for i in range(frames):
        writer.write(np.full((size[1], size[0], 3), 40 * i, np.uint8))
    writer.release()


def _write_kinds():
    """An image of every kind that people have."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(IMAGE[..., 0]).save("gray.png")
    Image.fromarray(np.dstack([IMAGE, IMAGE[..., :1]])).save("alpha.png")
    Image.fromarray(IMAGE[..., 0].astype(np.uint16) << 8).save("deep.png")
    Image.fromarray(IMAGE).convert("CMYK").save("print.jpg")
    Image.fromarray(IMAGE).save("turned.jpg", exif=exif)


def test_images_of_every_kind_give_panels_and_raw_results(demo):
    _write_kinds()
    names = ["gray", "alpha", "deep", "print", "turned"]
    assert demo("gray.png", "alpha.png", "deep.png", "*.jpg", "--save", "both") == 0
    assert {path.stem for path in Path("out/panels").iterdir()} == set(names)
    images = {image["file_name"]: image for image in json.loads(Path("out/raw/images.json").read_text())}
    assert len(images) == len(names)
    assert (images["turned.jpg"]["height"], images["turned.jpg"]["width"]) == (72, 64)
    for kind in ("semantic", "edge", "panoptic"):
        assert {path.stem for path in Path("out/raw", kind).iterdir()} == set(names)
    assert json.loads(Path("out/raw/instances.json").read_text())
    assert np.asarray(Image.open("out/raw/edge/turned.png")).shape == (72, 64)


def test_chosen_tasks_tiles_and_keys(demo):
    Path("images").mkdir()
    Image.fromarray(IMAGE).save("images/a.png")
    Image.fromarray(IMAGE).save("images/B.JPG")
    Path("images/notes.txt").write_text("no image")
    options = ["--save", "raw", "--tasks", "edge", "--tile", "48", "--opts", "INPUT.MTL.SCALE_TEST", "1.0"]
    assert demo("images", *options) == 0
    assert {path.name for path in Path("out/raw").iterdir()} == {"edge", "images.json"}
    assert {path.name for path in Path("out/raw/edge").iterdir()} == {"a.png", "B.png"}


def test_a_video_becomes_a_video_of_its_size_and_rate(demo):
    _write_video("clip.mp4")
    assert demo("clip.mp4", "--batch-size", "3") == 0
    reader = VideoReader("out/videos/clip.mp4")
    assert reader.fps == 12
    frames = list(reader)
    assert len(frames) == 4 and frames[0].shape == (48, 64, 3)
    assert not Path("out/panels").exists()


def test_frames_have_raw_results_of_their_own(demo):
    _write_video("clip.mp4", frames=2)
    assert demo("clip.mp4", "--save", "raw", "--tasks", "edge") == 0
    assert sorted(path.name for path in Path("out/raw/edge").iterdir()) == ["clip_000001.png", "clip_000002.png"]


def _truncated():
    Image.fromarray(IMAGE).save("bad.png")
    Path("bad.png").write_bytes(Path("bad.png").read_bytes()[:3000])


def _no_image():
    Path("bad.png").write_bytes(b"words")


def _floats():
    Image.fromarray(IMAGE[..., 0].astype(np.float32)).save("bad.tif")


def _no_video():
    Path("bad.mp4").write_bytes(b"words" * 1000)


def _truncated_video():
    _write_video("bad.mp4")
    Path("bad.mp4").write_bytes(Path("bad.mp4").read_bytes()[:500])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_truncated, r"bad\.png: cannot be read \(.*truncated"),
        (_no_image, r"bad\.png: cannot be read \(cannot identify"),
        (_floats, r"bad\.tif: cannot be read \(its pixels are float32"),
        (_no_video, r"bad\.mp4: cannot be opened as a video"),
        (_truncated_video, r"bad\.mp4: cannot be opened as a video"),
    ],
)
def test_one_that_fails_is_named_and_the_others_results_are_kept(demo, capsys, damage, reason):
    damage()
    Image.fromarray(IMAGE).save("good.png")
    assert demo("bad.*", "good.png", "--save", "both", "--tasks", "edge") == 1
    assert Path("out/panels/good.png").is_file() and Path("out/raw/edge/good.png").is_file()
    assert [image["file_name"] for image in json.loads(Path("out/raw/images.json").read_text())] == ["good.png"]
    out, err = capsys.readouterr()
    assert "Results of 1 of 2 inputs" in out
    assert re.search(f"^failed: {reason}", err, re.MULTILINE)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["empty"], "empty: the folder has no image or video (.avi, "),
        (["*.png"], "*.png: no file matches"),
        (["missing.png"], "missing.png: there is no such file or folder"),
        (["a.jpg", "--tasks", "depth"], "task 'depth' is not part of this network"),
        (["a.jpg", "--tile", "-3"], "tile=-3"),
        (["a.jpg", "--batch-size", "0"], "batch_size=0"),
        (["a.jpg", "--opts", "MODEL.NOTHING", "1"], "MODEL.NOTHING, which is not a config key"),
        (["a.jpg", "--opts", "MODEL.DEVICE"], "not a list of KEY VALUE pairs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_impossible_commands_end_with_one_sentence(demo, capsys, words, message):
    Path("empty").mkdir()
    Image.fromarray(IMAGE).save("a.jpg")
    assert demo(*words) == 2
    err = capsys.readouterr().err
    assert err.startswith("demo.py: ") and message in err and err.count("\n") == 1
    assert not Path("out").exists()


def test_weights_that_are_not_there(demo, capsys):
    Image.fromarray(IMAGE).save("a.jpg")
    assert demo("a.jpg", weights="missing.pth") == 2
    assert "missing.pth is not on the machine" in capsys.readouterr().err


def test_a_still_image_is_no_video(demo, capsys):
    Image.fromarray(IMAGE).save("a.jpg")
    assert demo("a.jpg", "--save", "video") == 1
    assert "a.jpg: is no video" in capsys.readouterr().err


def test_inputs_after_an_interrupt_have_no_results(demo, capsys, monkeypatch):
    for name in "abc":
        Image.fromarray(IMAGE).save(f"{name}.png")

    def interrupted(path, *words, **options):
        if path == "b.png":
            raise KeyboardInterrupt
        return read_image(path, *words, **options)

    read_image = run.read_image
    monkeypatch.setattr(run, "read_image", interrupted)
    assert demo("a.png", "b.png", "c.png", "--save", "raw", "--tasks", "edge") == 1
    out, err = capsys.readouterr()
    assert "Results of 1 of 3 inputs" in out
    assert "failed: b.png: interrupted\n" in err and "interrupted before 1 inputs were begun\n" in err
    assert [image["file_name"] for image in json.loads(Path("out/raw/images.json").read_text())] == ["a.png"]


def test_an_interrupt_ends_a_camera_well_and_the_next_input_follows(demo, capsys, monkeypatch):
    class Camera:
        fps, num_frames = 12.0, 0

        def __init__(self, source):
            assert source == 0

        def __iter__(self):
            yield from [IMAGE[:48, :64]] * 3
            raise KeyboardInterrupt

    Image.fromarray(IMAGE).save("a.png")
    monkeypatch.setattr(run, "VideoReader", Camera)
    assert demo("0", "a.png", "--tasks", "edge") == 0
    out, err = capsys.readouterr()
    assert "Results of 2 of 2 inputs" in out and "interrupted" not in err
    assert len(list(VideoReader("out/videos/camera_0.mp4"))) == 3 and Path("out/panels/a.png").is_file()


class TestInputs:
    def test_names_are_unique(self, tmp_path):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            Image.fromarray(IMAGE).save(tmp_path / folder / "x.png")
        Image.fromarray(IMAGE).save(tmp_path / "a" / "x.jpg")
        found = find_inputs([str(tmp_path / "a"), str(tmp_path / "b" / "*"), "3"])
        assert [item.name for item in found] == ["x", "x_2", "x_3", "camera_3"]
        assert [item.is_video for item in found] == [False, False, False, True]

    def test_a_file_named_by_digits_is_a_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Image.fromarray(IMAGE).save("7", format="PNG")
        assert not find_inputs(["7"])[0].is_video

    def test_a_camera_that_is_not_there(self):
        with pytest.raises(BrokenSampleError, match="camera 97: cannot be opened"):
            VideoReader(97)

    def test_a_video_that_ends_early_says_so_after_its_frames(self, tmp_path):
        _write_video(tmp_path / "a.mp4")
        reader = VideoReader(str(tmp_path / "a.mp4"))
        reader.num_frames = 40
        frames = iter(reader)
        assert len([next(frames) for _ in range(4)]) == 4
        with pytest.raises(BrokenSampleError, match="ends after 4 of 40 frames"):
            next(frames)
