// The whole of what an app does around the machine, as one call: syncing, sending, waiting, and going on when the network
// is back.

import Foundation

/// Gets syncs from the homeserver, with the app's HTTP client, filter and place to keep its position.
public protocol SyncSource: Sendable {
    /// Asks for the next sync, waiting for news as long as the app likes (`timeout`), and gives what
    /// `SyncChanges.fromSyncResponse` or `fromSlidingSync` makes of the answer.
    ///
    /// Throws ``NoAnswer`` or `URLError` when there was no answer, or none that is a sync: it is called again, after a
    /// pause that doubles with each failure. Anything else that it throws ends ``MlsMachine/run(_:_:)``.
    func next() async throws -> SyncChanges

    /// The machine has the sync on disk. Store `changes.nextBatch` now, and show what came. It is called once for each
    /// sync, in order. What it throws ends ``MlsMachine/run(_:_:)``.
    func received(_ changes: SyncChanges, _ summary: SyncSummary) async throws
}

/// There was no answer: no network, a timeout, a proxy's page instead of the homeserver's.
public struct NoAnswer: Error, Sendable {
    /// For a ``SyncSource`` that has no `URLError`.
    public init() {}
}

/// The first pause after a sync without an answer, and the longest.
private let firstPauseMs: UInt64 = 1_000
private let longestPauseMs: UInt64 = 60_000

extension MlsMachine {
    /// Syncs and sends what the machine has to send, until its task is cancelled or something ends it.
    ///
    /// One call for an app's whole life; ``drive(_:)``, `receiveSync` and `networkAvailable` are its parts. Without a
    /// network it waits, and goes on by itself: the first sync that has an answer again ends the waits of requests. A
    /// sync that the store could not take for now (a full disk) is passed in again. Send messages beside it with
    /// `encrypt`. Two of these at once would sync twice: run one.
    ///
    /// Ends by throwing alone: `CancellationError`; `MlsError.Unauthorized` when the homeserver refuses the access token
    /// (get another one, and run it again; nothing is lost); `Suspended` and `Closed`; other errors when the store fails
    /// for good; and whatever the source throws but that there was no answer.
    public func run(_ transport: some Transport, _ source: some SyncSource) async throws -> Never {
        try await withThrowingTaskGroup(of: Never.self) { group in
            group.addTask { try await self.driveForEver(transport) }
            group.addTask { try await self.syncForEver(source) }
            // The first to end is the reason; the group cancels the other.
            while true { _ = try await group.next() }
        }
    }

    /// Sends what there is to send, again and again.
    func driveForEver(_ transport: some Transport) async throws -> Never {
        while true {
            try await drive(transport)
            try await pauseBriefly()
        }
    }

    private func syncForEver(_ source: some SyncSource) async throws -> Never {
        var pauseMs = firstPauseMs
        var isOffline = false
        while true {
            try Task.checkCancellation()
            let changes: SyncChanges
            do {
                changes = try await source.next()
            } catch where error is NoAnswer || error is URLError {
                try Task.checkCancellation()
                isOffline = true
                try await Task.sleep(nanoseconds: pauseMs * 1_000_000)
                pauseMs = min(pauseMs * 2, longestPauseMs)
                continue
            }
            pauseMs = firstPauseMs
            if isOffline { try await networkAvailable() }
            isOffline = false
            try await source.received(changes, try await receive(changes))
        }
    }

    /// Takes a sync in, again and again where the store cannot for now.
    private func receive(_ changes: SyncChanges) async throws -> SyncSummary {
        while true {
            do {
                return try await receiveSync(changes: changes)
            } catch MlsError.StoreFull, MlsError.StoreIo {
                try await Task.sleep(nanoseconds: firstPauseMs * 1_000_000)
            }
        }
    }
}
