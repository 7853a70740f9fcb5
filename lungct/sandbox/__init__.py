"""A child process that reads untrusted bytes, so that the crash of a decoder is an error of one patient only.

    parent.py      `Sandbox`: starts the child, has it call a function on a patient's files, receives the answer
    child.py       what runs in the child: ``python -m lungct.sandbox.child``
    preparing.py   the function that extraction calls: a patient's files -> triplets
    persons.py     functions that extraction calls before: files -> whom they are about
    messages.py    what the two send each other

Without the child, Ray would restart a task that crashes its process again and again, forever. The two processes talk
through pipes, in frames of JSON and raw arrays: nothing that the child sends is ever unpickled, because a decoder that
a hostile file has taken over must not take over the parent, too.

Who is at fault when the child ends? A decoder that crashes, needs more than its memory or exceeds its time does so
because of the patient's bytes. A child that somebody else kills (the system for lack of memory, a person) says nothing
about the patient.
"""

from lungct.sandbox.messages import Answer
from lungct.sandbox.parent import MORE_MEMORY, Sandbox, process_sandbox
from lungct.sandbox.preparing import Prepared

__all__ = ["MORE_MEMORY", "Answer", "Prepared", "Sandbox", "process_sandbox"]
