"""Ask a model server over gRPC, without the package tensorflow-serving-api.

A call of gRPC is a path and the bytes of one message in each direction. The messages are those of
the warm-up file (see `keras_music.serving.warmup`), so that nothing else is needed. There is no
encryption, no retry and no other service than Predict."""

import grpc

from keras_music.serving.warmup import PredictResponse, from_entries, predict_request

PREDICT = "/tensorflow.serving.PredictionService/Predict"


def predict(address, model, signature, inputs, timeout=30):
    """Return `{output name: array}`, or raise grpc.RpcError with `code()` and `details()`.

    Args:
        address: such as "127.0.0.1:8500".
        model: the model's name on the server.
        signature: such as "generate".
        inputs: `{input name: array}`, exactly those of the signature and of their types.
        timeout: seconds.
    """
    options = [("grpc.enable_http_proxy", 0)]  # a proxy for the web does not know this server
    with grpc.insecure_channel(address, options) as channel:
        ask = channel.unary_unary(
            PREDICT,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=PredictResponse.FromString,
        )
        response = ask(predict_request(model, signature, inputs), timeout=timeout)
    return from_entries(response.outputs)
