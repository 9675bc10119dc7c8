"""Where the files of a registered dataset are, whichever way it was registered."""

from dataclasses import dataclass, field
from typing import Any

from detectron2.data.catalog import Metadata


@dataclass(frozen=True)
class DatasetPaths:
    """Paths of a dataset.

    Attributes:
        image_root: folder of the images; "" where it is not known.
        json_file: COCO json of the instances; "" where there is none.
        labels: record key -> folder of the label PNGs, named as the images.
        description: of a described dataset: an image without a label file is unlabelled.
    """

    image_root: str = ""
    json_file: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    description: Any = None


def dataset_paths(metadata: Metadata) -> DatasetPaths:
    """What Detectron2's metadata of a dataset say of its files."""
    description = metadata.get("description")
    if description is None:
        labels = {"sem_seg_file_name": metadata.get("sem_seg_root"), "edge_file_name": metadata.get("edge_root")}
        image_root, json_file = metadata.get("image_root"), metadata.get("json_file")
    else:
        semantic = description.semantic
        labels = {
            "sem_seg_file_name": semantic.folder if semantic else None,
            "edge_file_name": description.edges.folder,
        }
        image_root, json_file = description.images, description.instances
    folders = {key: str(folder) for key, folder in labels.items() if folder}
    return DatasetPaths(str(image_root or ""), str(json_file or ""), folders, description)
