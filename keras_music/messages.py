"""Messages of Protocol Buffers from a table of their fields: no compiler, and no clashes.

A message is a list of (field number, value). Text, bytes and messages are written as their length
and their bytes; a map is one message {1: key, 2: value} an entry. So a table of names and numbers
says all that `protoc` would make a module of:

    {"Point": [("x", 1, "int64"), ("y", 2, "int64")], "Line": [("points", 1, "Point*")]}

TensorFlow and its services speak in such messages. To write a few of them, this table replaces a
package that would have to be installed and imported with all it needs.

Conventions: "*" means that a field may occur many times; a type is "string", "bytes", "int64" or
the name of a message of the same table.

What this file does not do: no other types, no groups, no default values.

Reference: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

TYPES = {
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "int64": descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
}


def message_classes(package, messages):
    """Makes the classes of a table, in a pool of their own, where no other package's clash.

    Args:
      package: what the names of the messages begin with, such as "tensorflow.serving".
      messages: {message: [(field, number, type)]}.

    Returns:
      List of classes, in the order of the table.

    Example:
      >>> [point] = message_classes("drawing", {"Point": [("x", 1, "int64"), ("y", 2, "int64")]})
      >>> point(x=5, y=300).SerializeToString().hex(" ")
      '08 05 10 ac 02'
    """
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3"
    )
    for name, fields in messages.items():
        described = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            field = described.field.add(name=field_name, number=number)
            field.label = field.LABEL_REPEATED if kind.endswith("*") else field.LABEL_OPTIONAL
            kind = kind.removesuffix("*")
            field.type = TYPES.get(kind, field.TYPE_MESSAGE)
            if kind not in TYPES:
                field.type_name = f".{package}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    find = pool.FindMessageTypeByName
    return [message_factory.GetMessageClass(find(f"{package}.{name}")) for name in messages]
