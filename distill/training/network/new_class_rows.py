"""Sets the classifier's initial rows for classes that the checkpoint of a student lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from tinyvit.distill.training.network.student import Student
from tinyvit.labels import Label
from tinyvit.text.plurals import format_count


def fill_new_class_rows(student: Student, init_labels: Sequence[Label]) -> Student:
    """Set the rows of new classes to the mean of the rows that come from the checkpoint.

    The paper's code does so when it fine-tunes a network of ImageNet-22k on ImageNet-1k (microsoft/
    Cream, TinyViT/utils.py): class 850, "teddy", is the only one that ImageNet-22k lacks. Nothing
    changes if the checkpoint has all classes of the student, or none.

    Args:
        student: The student, whose network is changed in place.
        init_labels: Labels of the checkpoint's classes.

    Returns:
        The student, whose `head_origin` states the number of new classes.
    """
    known = set(init_labels)
    is_new = torch.tensor([label not in known for label in student.labels])
    new_count = int(is_new.sum())
    if new_count in (0, len(student.labels)):
        return student
    head = student.model.head.fc
    with torch.no_grad():
        head.weight[is_new] = head.weight[~is_new].mean(0)
        head.bias[is_new] = head.bias[~is_new].mean()
    origin = (
        f"{student.head_origin}, and with their mean for "
        f"{format_count(new_count, 'class', 'classes')} that the checkpoint lacks"
    )
    return replace(student, head_origin=origin)
