"""Widgets over the library: forms made from settings, jobs driven by buttons, one panel a notebook."""

from vqtools.ui.form import Form
from vqtools.ui.painting import PaintPanel
from vqtools.ui.panels import AnimatePanel, SamplePanel, test_card
from vqtools.ui.runner import Runner
from vqtools.ui.training import TrainPanel

__all__ = ["AnimatePanel", "Form", "PaintPanel", "Runner", "SamplePanel", "TrainPanel", "test_card"]
