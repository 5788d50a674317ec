// What every `MlsError` says, whichever of its variants it is, as properties, and as Foundation has it.

import Foundation

extension MlsError {
    /// The stable code, made for programs.
    public var code: String { details().code }

    /// A sentence for a log; it may change from release to release.
    public var reason: String { details().reason }

    /// Whether the same call may succeed later without a change by the app.
    public var retryable: Bool { details().retryable }
}

extension MlsError: LocalizedError, CustomNSError {
    /// The sentence. It is made for a log: `docs/errors.md` says what to tell a user for each code.
    public var errorDescription: String? { reason }

    /// The domain of these errors as `NSError`s. Their `userInfo` has the code, as a string.
    public static var errorDomain: String { "org.matrixmls.MlsError" }

    /// The sentence, and the stable code under `"code"`.
    public var errorUserInfo: [String: Any] { [NSLocalizedDescriptionKey: reason, "code": code] }
}
