"""A stand-in for setuptools, on PYTHONPATH only while backend.fetch_sdist() runs.

The setup.py of the source distribution imports torch and lists C++ sources that it does not ship, so its own
build cannot run. pip and uv build a source distribution without a pyproject.toml through
`setuptools.build_meta:__legacy__`; the one here never runs setup.py and packs the files as they are.
"""
