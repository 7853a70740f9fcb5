"""A child process that decodes untrusted bytes, so that the crash of a decoder is an error of one patient only.

    parent.py     `Sandbox`: starts the child, sends it a patient, receives the patient's triplets
    child.py      what runs in the child: ``python -m lungct.sandbox.child``
    messages.py   what the two send each other

Without the child, Ray would restart a task that crashes its process again and again, forever. The two processes talk
through pipes, in frames of JSON and raw arrays: nothing that the child sends is ever unpickled, because a decoder that
a hostile file has taken over must not take over the parent, too.
"""

from lungct.sandbox.messages import Prepared
from lungct.sandbox.parent import Sandbox

__all__ = ["Prepared", "Sandbox"]
