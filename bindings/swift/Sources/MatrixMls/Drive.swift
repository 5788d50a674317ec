// The loop between the engine's requests and an app's `Transport`: what to send when, and how long to wait, is
// the engine's to say; how to send it is the transport's. Cancelling a task ends what it does here at the next
// request or in the middle of a wait. What was not sent stays in the store and is handed out again.

import Foundation

/// How often `encrypt` prepares a room anew when it changes between preparing and encrypting.
private let attempts = 5

/// How long is waited at the most before the engine is asked again: a sync may have brought something to do, or the
/// task may have been cancelled.
private let longestWaitMs: UInt64 = 1_000

extension MlsMachine {
    /// Sends everything the engine has to send, oldest first, until nothing is left.
    ///
    /// A request that fails is sent again when the engine says so: after what the homeserver asked for
    /// (`retry_after_ms`), or a delay that doubles with each failure. What earlier calls have put off is waited for,
    /// too; without a network this therefore waits. Cancel the task to stop. What is queued while it waits is sent soon.
    /// `networkAvailable()` ends the wait when the network is back, and so does each sync; `pendingRequests()` says
    /// what waits, and until when. Refusals are in what it returns, not errors.
    ///
    /// Throws `MlsError.Unauthorized` when the homeserver refuses the access token: get another one and run this again,
    /// nothing is lost. Throws `MlsError.Suspended` when the machine is suspended.
    ///
    /// Run it after each sync and whenever the network is back; ``run(_:_:)`` does all of that. Two at once are safe: no
    /// request is sent by both at a time, and each returns once nothing is left.
    @discardableResult
    public func drive(_ transport: some Transport) async throws -> Driven {
        var driven = Driven()
        try Task.checkCancellation()
        // Whoever runs this wants to try with the token that there is now.
        try await accessTokenRenewed()
        while true {
            try Task.checkCancellation()
            let asked = InFlight.shared.now
            let requests = try await outgoingRequests()
            if requests.isEmpty {
                let pending = try await pendingRequests()
                // Another call has met the refusal.
                if pending.unauthorized { throw unauthorized("another request was refused") }
                guard let left = pending.retryAfterMs else { return driven }
                try await pause(left)
            }
            for request in requests {
                switch try await send(request, transport, asked) {
                case nil:
                    // Another call has sent it meanwhile.
                    break
                case .accepted:
                    driven.accepted += 1
                case .retryLater:
                    break
                case .unauthorized(let code, _, _):
                    throw unauthorized(code)
                case .refused(let code, let reason):
                    let refusal = Refusal(method: request.method, path: request.path, code: code, reason: reason)
                    driven.refused.append(refusal)
                }
            }
        }
    }

    /// Makes a room ready for a message: sends what `prepareToSend` asks for until the group's members are the
    /// room's. A device without a group joins it by this.
    ///
    /// Waits like ``drive(_:)``. Keep syncing in another task: some of what this waits for arrives only by sync. Throws `MlsError.Unauthorized` like ``drive(_:)``, and
    /// `MlsError.NewDeviceNeeded` when the homeserver has other keys for this device.
    ///
    /// Throws `NotReady` (`"members_unknown"`) if the homeserver does not say who is in the room: then nothing is sent
    /// there.
    public func prepare(_ room: MlsRoom, _ transport: some Transport) async throws {
        while true {
            let asked = InFlight.shared.now
            guard case .waiting(let requests, let retryAfterMs) = try await room.prepareToSend() else { return }
            try Task.checkCancellation()
            for request in requests {
                if case .unauthorized(let code, _, _) = try await send(request, transport, asked) {
                    throw unauthorized(code)
                }
            }
            if requests.isEmpty {
                try await pause(retryAfterMs ?? 0)
            }
        }
    }

    /// Prepares a room and encrypts an event for it: gives the content of the `m.room.encrypted` event to send.
    ///
    /// - Parameter content: The event's content, a JSON object.
    public func encrypt(
        in room: MlsRoom, eventType: String, content: String, transport: some Transport
    ) async throws -> String {
        for _ in 1..<attempts {
            try await prepare(room, transport)
            do {
                return try await room.encrypt(eventType: eventType, content: content)
            } catch MlsError.NotReady {
                // Somebody joined or left in between.
            }
        }
        try await prepare(room, transport)
        return try await room.encrypt(eventType: eventType, content: content)
    }

    /// Sends a request that was handed out after a time; where another call is just sending it, waits for that and
    /// gives nothing, and where another has sent it since, gives nothing.
    private func send(
        _ request: OutgoingRequest, _ transport: some Transport, _ asked: UInt64
    ) async throws -> RequestOutcome? {
        try Task.checkCancellation()
        let sending = InFlight.Sending(machine: ObjectIdentifier(self), request: request.id)
        guard InFlight.shared.begin(sending, asked) else {
            while InFlight.shared.contains(sending) { try await Task.sleep(nanoseconds: 10_000_000) }
            return nil
        }
        defer { InFlight.shared.end(sending) }
        let answer = try await transport.answer(to: request)
        // Also in a cancelled task: the homeserver has answered, and the engine must know.
        return try await markRequestAsSent(id: request.id, answer: answer)
    }

    /// `markRequestAsSent` for the `Int` that HTTP clients give; status 0 stands for no answer.
    @discardableResult
    public func markRequestAsSent(id: String, answer: Answer) async throws -> RequestOutcome {
        guard (0...999).contains(answer.status) else {
            let reason = "status: \(answer.status) is no HTTP status"
            throw MlsError.InvalidInput(
                details: ErrorDetails(code: "bad_status", reason: reason, retryable: false))
        }
        return try await markRequestAsSent(id: id, status: UInt16(answer.status), body: answer.body)
    }

    /// Waits until something may have changed, at least a moment, so that no loop spins, and not too long: a wait of
    /// the engine's does not notice that its task was cancelled.
    private func pause(_ milliseconds: UInt64) async throws {
        try await Task.sleep(nanoseconds: 1_000_000)
        await waitForChange(longestMs: min(milliseconds, longestWaitMs))
    }

    /// Waits until there may be something to send, and not too long.
    func pauseBriefly() async throws {
        try await pause(longestWaitMs)
    }
}

/// The requests that are being sent, and those that were lately, so that two loops do not send the same.
private final class InFlight: @unchecked Sendable {
    struct Sending: Hashable {
        let machine: ObjectIdentifier
        let request: String
    }

    static let shared = InFlight()
    private let lock = NSLock()
    private var running: Set<Sending> = []
    private var ended: [Sending: UInt64] = [:]
    private var ends: UInt64 = 0

    /// A point in time: what a machine hands out after it was not answered before it.
    var now: UInt64 { lock.withLock { ends } }

    /// Whether it is to be sent: it is not being sent, and was not since the time at which it was asked for.
    func begin(_ sending: Sending, _ asked: UInt64) -> Bool {
        lock.withLock {
            if let end = ended[sending], end > asked { return false }
            return running.insert(sending).inserted
        }
    }

    func contains(_ sending: Sending) -> Bool {
        lock.withLock { running.contains(sending) }
    }

    func end(_ sending: Sending) {
        lock.withLock {
            running.remove(sending)
            ends += 1
            ended[sending] = ends
            // The last ones are enough: a loop sends what it was given within moments.
            if ended.count > 2_000 { ended = ended.filter { $0.value + 1_000 > ends } }
        }
    }
}

extension Transport {
    /// Sends a request; an answer of status 0 stands for none. Throws only where the task was cancelled.
    func answer(to request: OutgoingRequest) async throws -> Answer {
        do {
            return try await send(request)
        } catch let cancelled as CancellationError {
            throw cancelled
        } catch {
            // HTTP clients have errors of their own for being cancelled, such as URLError.cancelled.
            try Task.checkCancellation()
            return Answer(status: 0, body: Data())
        }
    }
}

private func unauthorized(_ why: String) -> MlsError {
    let reason = "the homeserver refuses the access token: \(why)"
    return .Unauthorized(details: ErrorDetails(code: "unauthorized", reason: reason, retryable: true))
}
