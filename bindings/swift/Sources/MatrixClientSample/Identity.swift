// What a user does about who is who: an identity of one's own, and comparing emojis with somebody.

import MatrixMls

extension MatrixClient {
    /// Makes an identity for a user who has none, and signs this device with it.
    public func makeIdentity() async throws {
        let identity = machine.identity()
        try await identity.create()
        try await settle()
        let state = try await identity.state()
        guard case .complete = state else {
            throw MatrixError(what: "a complete identity", status: nil, body: "\(state)")
        }
    }

    /// Asks somebody to compare emojis. Returns the verification's id.
    public func askToVerify(_ userId: String) async throws -> String {
        try await machine.requestVerification(userId: userId, deviceId: nil).id()
    }

    /// Answers the one who asks. Returns the verification's id.
    public func answerWhoAsks() async throws -> String {
        guard let asked = try await machine.verifications().first(where: \.isIncoming) else {
            throw MatrixError(what: "somebody who asks", status: nil, body: "nobody does")
        }
        try await machine.verification(verificationId: asked.id).accept()
        return asked.id
    }
}

extension Verification {
    /// The seven emojis to compare.
    public func emojis() async throws -> [String] {
        let state = try await info().state
        guard case .comparing(let emojis, _) = state else {
            throw MatrixError(what: "emojis", status: nil, body: "\(state)")
        }
        return emojis.map(\.symbol)
    }

    /// Whether this device has signed who was verified.
    public func hasSigned() async throws -> Bool {
        let state = try await info().state
        guard case .done(_, let isSigned) = state else {
            throw MatrixError(what: "the end of a verification", status: nil, body: "\(state)")
        }
        return isSigned
    }
}
