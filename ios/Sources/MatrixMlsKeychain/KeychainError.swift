/// What can go wrong with the Keychain, by what an app can do about it, with the system's own status where
/// there is one.

import Foundation

#if canImport(Security)
import Security
#else
/// The number that the Security framework answers with.
public typealias OSStatus = Int32
#endif

/// Why a secret could not be read or kept.
public enum KeychainError: Error, Sendable, Hashable {
    /// There is no such secret, and the call does not make one.
    case missing
    /// There is one already.
    case duplicate
    /// The device was not unlocked since it started, so nothing can be read yet. Try again later; making a new
    /// key instead would lock the store for good.
    case locked(OSStatus)
    /// The app may not use this access group: `keychain-access-groups` in its entitlements does not name it.
    case notEntitled(OSStatus)
    /// What is kept under this name is not what this library put there.
    case malformed(reason: String)
    /// Anything else that the system answered.
    case system(OSStatus)

    /// What a status of the Security framework means. The numbers are Apple's, from SecBase.h.
    public init(status: OSStatus) {
        switch status {
        case -25300: self = .missing // errSecItemNotFound
        case -25299: self = .duplicate // errSecDuplicateItem
        case -25308: self = .locked(status) // errSecInteractionNotAllowed
        case -34018: self = .notEntitled(status) // errSecMissingEntitlement
        default: self = .system(status)
        }
    }

    /// The system's status, where it was the system that refused.
    public var status: OSStatus? {
        switch self {
        case .missing: return -25300
        case .duplicate: return -25299
        case .locked(let status), .notEntitled(let status), .system(let status): return status
        case .malformed: return nil
        }
    }

    /// Whether the same call may succeed later without a change by the app.
    public var retryable: Bool {
        if case .locked = self { return true }
        return false
    }
}

extension KeychainError: LocalizedError {
    /// A sentence for a log. It holds no secret.
    public var errorDescription: String? {
        switch self {
        case .missing: return "the Keychain has no such secret"
        case .duplicate: return "the Keychain has that secret already"
        case .locked(let status): return "the Keychain is locked until the device is unlocked (\(status))"
        case .notEntitled(let status): return "the app is not entitled to that access group (\(status))"
        case .malformed(let reason): return "the Keychain's secret is malformed: \(reason)"
        case .system(let status): return "the Keychain refused (\(status))"
        }
    }
}
