#!/usr/bin/env python
"""Train or evaluate a network from a config file, as Detectron2's tools of the same name do."""

from mtl_d2.engine import main

if __name__ == "__main__":
    main()
