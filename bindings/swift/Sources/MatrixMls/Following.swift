// Reading one message beside a machine that has not seen its epoch yet, as a notification extension does.

import Foundation

extension MlsReader {
    /// Decrypts one `m.room.encrypted` message event of a room, given as JSON, also where the machine has not seen
    /// its epoch yet: then the commits that lead there are fetched, and followed in memory. The store stays as it is.
    ///
    /// Throws `MlsError.UnknownEpoch` where that does not lead to the message: show that there is one. It takes at
    /// most 25 seconds; cancel the task to stop before. `follow` says what else is bounded.
    public func decrypt(
        roomId: String, event: String, transport: some Transport
    ) async throws -> DecryptedMessage {
        let follower = try await follow(roomId: roomId, event: event)
        while true {
            try Task.checkCancellation()
            switch try await follower.nextStep() {
            case .read(let message):
                return message
            case .send(let requests):
                for request in requests { try await follower.send(request, transport) }
            }
        }
    }
}

extension MlsFollower {
    fileprivate func send(_ request: OutgoingRequest, _ transport: some Transport) async throws {
        try Task.checkCancellation()
        let answer = try await transport.answer(to: request)
        // What is no HTTP status is no answer.
        let status = (0...999).contains(answer.status) ? UInt16(answer.status) : 0
        try await markRequestAsSent(id: request.id, status: status, body: answer.body)
    }
}
