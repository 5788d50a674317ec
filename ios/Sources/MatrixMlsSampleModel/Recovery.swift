/// What the screens show of the user's recovery key: how it stands, and what to do about it.

import MatrixMls

/// The recovery key, beside the identity that it gives to a new phone.
public struct Recovery: Sendable, Equatable {
    /// How secret storage stands.
    let storage: RecoveryState
    /// How the user's identity stands on this device.
    let identity: IdentityState

    /// Whether the user can have a key made.
    public var canSetUp: Bool { storage == .absent && identity == .complete }

    /// Whether the user is asked for the key.
    public var canRecover: Bool {
        guard case .present = storage, case .incomplete = identity else { return false }
        return true
    }

    /// What the screen says.
    public var sentence: String {
        switch storage {
        case .unknown, .working: return "Looking for your recovery key."
        case .absent: return "Without a recovery key, a new phone cannot read earlier messages."
        case .present where canRecover: return "Type your recovery key to read earlier messages here."
        case .present: return "Your recovery key is set up."
        case .unsupported: return "Another app has made your recovery key in a way that this one does not know."
        }
    }
}
