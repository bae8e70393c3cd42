package io.grpc;

// The Pub/Sub emulator 0.8.20 mixes two versions of grpc-java: without the third method it throws whenever a client drops
// a stream, never notices that the stream is closed, and goes on sending to nobody. Put before its jar, this mends it.
public final class InternalStatus {
  public static final Metadata.Key<String> MESSAGE_KEY = Status.MESSAGE_KEY;
  public static final Metadata.Key<Status> CODE_KEY = Status.CODE_KEY;

  private InternalStatus() {}

  public static StatusRuntimeException asRuntimeExceptionWithoutStacktrace(Status status, Metadata trailers) {
    return new StatusRuntimeException(status, trailers);
  }

  public static StatusRuntimeException asRuntimeException(Status status, Metadata trailers, boolean stackTrace) {
    return new StatusRuntimeException(status, trailers);
  }
}
