/// The whole way of a push in an extension: the event from the homeserver, the reader on the shared store, the
/// words. The steps that differ between apps are handed in, so that a test runs the same way with its own.

import Foundation
import MatrixMls

/// Turns pushes into what to show.
public struct PushHandler: Sendable {
    private let words: PushWords
    private let openReader: @Sendable () async throws -> MlsReader
    private let fetchEvent: @Sendable (Push) async throws -> String
    private let openTransport: @Sendable () async throws -> any Transport

    /// A handler that opens the store and fetches events this way. `fetchEvent` gives the event as JSON, as
    /// `GET /rooms/{roomId}/event/{eventId}` answers. `openTransport` gives what sends requests as the session's
    /// device, for what the app's machine has not seen yet.
    public init(
        words: PushWords = PushWords(),
        openReader: @escaping @Sendable () async throws -> MlsReader,
        fetchEvent: @escaping @Sendable (Push) async throws -> String,
        openTransport: @escaping @Sendable () async throws -> any Transport
    ) {
        self.words = words
        self.openReader = openReader
        self.fetchEvent = fetchEvent
        self.openTransport = openTransport
    }

    /// What to show for a push; nil stands for one that names no event. It never fails: what cannot be read gets the
    /// generic text.
    public func notice(for push: Push?) async -> PushNotice {
        guard let push else { return words.generic(because: .unexpected("a push without an event")) }
        do {
            // First the reader: a store that does not open saves the request.
            let reader = try await openReader()
            let event = try await fetchEvent(push)
            let decryptor = PushDecryptor(reader: reader, transport: try await openTransport(), words: words)
            return await decryptor.notice(for: push, event: event)
        } catch let error as MlsError {
            return words.generic(push, because: .mls(code: error.code))
        } catch {
            // The type only: an error's own words may hold an address with a token in it.
            return words.generic(push, because: .unavailable("\(type(of: error))"))
        }
    }
}
