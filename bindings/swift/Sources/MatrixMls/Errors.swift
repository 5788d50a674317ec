// What every `MlsError` has, whichever of its variants it is: reachable without a `switch`.

extension MlsError {
    /// The stable code, made for programs.
    public var code: String { parts.code }

    /// A sentence for a log; it may change from release to release.
    public var reason: String { parts.reason }

    /// Whether the same call may succeed later without a change by the app.
    public var retryable: Bool { parts.retryable }

    private var parts: (code: String, reason: String, retryable: Bool) {
        switch self {
        case let .InvalidInput(code, reason, retryable),
            let .StoreWrongKey(code, reason, retryable),
            let .StoreDamaged(code, reason, retryable),
            let .StoreTooNew(code, reason, retryable),
            let .StoreFull(code, reason, retryable),
            let .StoreInUse(code, reason, retryable),
            let .StoreIo(code, reason, retryable),
            let .Closed(code, reason, retryable),
            let .NotInGroup(code, reason, retryable),
            let .NotReady(code, reason, retryable),
            let .TooLarge(code, reason, retryable),
            let .UnknownEpoch(code, reason, retryable),
            let .Forked(code, reason, retryable),
            let .Rejected(code, reason, retryable),
            let .Unsupported(code, reason, retryable),
            let .Internal(code, reason, retryable):
            return (code, reason, retryable)
        }
    }
}
