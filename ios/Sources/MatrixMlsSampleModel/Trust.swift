/// What the screens show of who is really there: shields, people whose identity is another than before, and comparing
/// emojis with somebody.

import MatrixMls

/// The shield beside a message.
public struct RowShield: Sendable, Equatable {
    /// Whether it is a warning; it is grey otherwise.
    public let isRed: Bool
    /// Why it is there, as a sentence.
    public let sentence: String

    /// The shield of a verdict, if it has one.
    init?(_ verdict: Verdict) {
        switch shieldOf(verdict: verdict, strict: false) {
        case .none:
            return nil
        case .grey(_, let sentence):
            isRed = false
            self.sentence = sentence
        case .red(_, let sentence):
            isRed = true
            self.sentence = sentence
        }
    }
}

/// Somebody who has another identity than the one that this device has seen first, or that its user has verified.
public struct ChangedIdentity: Sendable, Equatable, Identifiable {
    /// The user's id.
    public let id: String
    /// The key that the user has by now.
    let masterKey: String
    /// Whether the user was verified. Then nothing is sent to rooms with the user until somebody decides.
    public let wasVerified: Bool

    /// Nothing for a user whose identity is the known one.
    init?(_ identity: UserIdentity?) {
        guard let identity else { return nil }
        wasVerified = identity.verification == .changed
        guard wasVerified || identity.hasChanged else { return nil }
        id = identity.userId
        masterKey = identity.masterKey
    }

    /// What to warn of.
    public var sentence: String {
        wasVerified
            ? "You verified \(id), but their identity is another now."
            : "\(id) has another identity than before."
    }
}

/// Comparing emojis with somebody: how far it has come.
public struct Comparison: Sendable, Equatable, Identifiable {
    /// The verification's id.
    public let id: String
    /// Who is verified.
    public let userId: String
    /// Whether the other one has asked.
    public let isIncoming: Bool
    /// How far it has come.
    public let state: VerificationState

    init(_ info: VerificationInfo) {
        id = info.id
        userId = info.userId
        isIncoming = info.isIncoming
        state = info.state
    }

    /// Whether the user is asked to take part.
    public var isQuestion: Bool { isIncoming && state == .requested }

    /// What to compare: emojis with their names, or numbers where the other side has no emojis.
    public var shown: [String]? {
        guard case .comparing(let emojis, let decimals) = state else { return nil }
        return emojis.isEmpty ? decimals.map { "\($0)" } : emojis.map { "\($0.symbol) \($0.description)" }
    }

    /// Whether there is nothing to do any more.
    public var isOver: Bool {
        switch state {
        case .done, .cancelled: return true
        default: return false
        }
    }

    /// What the screen says.
    public var sentence: String {
        switch state {
        case .requested: return isIncoming ? "\(userId) wants to compare emojis" : "Asking \(userId)"
        case .ready, .started: return "Agreeing with \(userId)"
        case .comparing: return "Does \(userId) see the same?"
        case .confirmed: return "Waiting for \(userId)"
        case .done: return "You have verified \(userId)"
        case .cancelled(let code, let reason, _): return "Not verified: \(reason) (\(code))"
        }
    }
}
