// What every `MlsError` says, whichever of its variants it is, as properties.

extension MlsError {
    /// The stable code, made for programs.
    public var code: String { details().code }

    /// A sentence for a log; it may change from release to release.
    public var reason: String { details().reason }

    /// Whether the same call may succeed later without a change by the app.
    public var retryable: Bool { details().retryable }
}
