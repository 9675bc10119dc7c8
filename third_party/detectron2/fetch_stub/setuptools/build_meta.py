"""The `__legacy__` build backend of the stand-in: a wheel that holds the raw files under sdist/."""

import zipfile
from pathlib import Path

_NAME = "pb1_detectron2-0.6"
_INFO = f"{_NAME}.dist-info"
_METADATA = {
    "METADATA": "Metadata-Version: 2.1\nName: pb1-detectron2\nVersion: 0.6\n",
    "WHEEL": "Wheel-Version: 1.0\nGenerator: fetch_stub\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}


class __legacy__:  # noqa: N801  (the name that pip and uv ask for)
    @staticmethod
    def get_requires_for_build_wheel(config_settings: dict | None = None) -> list[str]:
        return []

    @staticmethod
    def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: dict | None = None) -> str:
        info = Path(metadata_directory, _INFO)
        info.mkdir()
        for name, text in _METADATA.items():
            (info / name).write_text(text)
        return _INFO

    @staticmethod
    def build_wheel(
        wheel_directory: str, config_settings: dict | None = None, metadata_directory: str | None = None
    ) -> str:
        """Pack every file of the working directory, which is the unpacked source distribution."""
        name = f"{_NAME}-py3-none-any.whl"
        files = [path for path in sorted(Path().rglob("*")) if path.is_file()]
        with zipfile.ZipFile(Path(wheel_directory, name), "w") as wheel:
            for path in files:
                wheel.write(path, f"sdist/{path.as_posix()}")
            for metadata_name, text in _METADATA.items():
                wheel.writestr(f"{_INFO}/{metadata_name}", text)
            wheel.writestr(f"{_INFO}/RECORD", "".join(f"sdist/{path.as_posix()},,\n" for path in files))
        return name
