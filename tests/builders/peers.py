"""What peers of the DICOM node send, byte by byte: whole messages, and such as are broken off or no messages at all."""

from __future__ import annotations

import io
import struct

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation  # type: ignore[attr-defined]

ACCEPTED, ABORTED = 2, 7
"""First bytes of an answer."""


def request() -> bytes:
    """Write the A-ASSOCIATE-RQ of a peer that wants to store a digital radiograph."""
    from pynetdicom.pdu import A_ASSOCIATE_RQ
    from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
    from pynetdicom.presentation import build_context

    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "MODALITY", "PNEUMOSCOPE"
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 16382, "1.2.3"
    primitive.user_information = [length, implementation]
    context = build_context(DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian)
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def unit(kind: int, length: int, body: bytes = b"") -> bytes:
    """Write a protocol data unit that says it has so many bytes."""
    return struct.pack(">BBL", kind, 0, length) + body


def fragment(control: int, data: bytes) -> bytes:
    """Write a P-DATA-TF with one fragment: of a command (control 1, the last 3) or of an object (0, the last 2)."""
    return unit(4, len(data) + 6, struct.pack(">LBB", len(data) + 2, 1, control) + data)


def store() -> bytes:
    """Write the command of a C-STORE, after which the object would follow."""
    from pynetdicom.dimse_messages import C_STORE_RQ
    from pynetdicom.dimse_primitives import C_STORE

    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = 1, 2
    primitive.AffectedSOPClassUID = DigitalXRayImageStorageForPresentation
    primitive.AffectedSOPInstanceUID = "1.2.3"
    primitive.DataSet = io.BytesIO(b"\0\0")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    return fragment(3, next(iter(message.encode_msg(1, 16382))).presentation_data_value_list[0][1][1:])


ABORT = unit(7, 4, bytes(4))
"""An A-ABORT."""

NO_MESSAGE = {
    "no DICOM": b"GET / HTTP/1.1\r\nHost: pneumoscope\r\n\r\n",
    "a unit of 4 GB": unit(1, 2**32 - 1, b"\0" * 100),
    "data before an association": unit(4, 12, struct.pack(">LBB", 8, 1, 3) + bytes(6)),
    "half a request": request()[:50],
    "a request of zeros": unit(1, 200, bytes(200)),
    "silence": b"",
}
"""What is no request of an association."""
