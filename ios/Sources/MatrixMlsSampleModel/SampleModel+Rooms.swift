/// What the user does in rooms.

import Foundation
import MatrixMls

extension SampleModel {
    /// Makes a room that uses MLS from its birth, and invites others. Returns its id, or nil and a `problem`.
    @discardableResult
    public func createRoom(name: String, invite userIds: [String] = []) async -> String? {
        await attempt { account in
            let roomId = try await account.homeserver.createRoom(name: name, invite: userIds)
            try await account.machine.room(roomId: roomId).enable(settings: RoomSettings())
            self.wake()
            return roomId
        }
    }

    /// Joins a room, after an invitation. Whoever writes there next adds this device to the room's group; if that is
    /// this device, it joins by itself.
    public func join(_ roomId: String) async {
        await attempt { try await $0.homeserver.join(roomId) }
    }

    /// Invites somebody.
    public func invite(_ userId: String, to roomId: String) async {
        await attempt { try await $0.homeserver.invite(userId, to: roomId) }
    }

    /// Shows a room: its newest messages, and from then on what comes.
    public func openTimeline(_ roomId: String) async {
        await attempt { try await self.reloadTimeline(roomId, $0) }
    }

    /// Sends a text. Returns whether the homeserver has it. The request is sent again when no answer came, with the
    /// same transaction id, so that the message is there once.
    @discardableResult
    public func send(_ text: String, to roomId: String) async -> Bool {
        let sent: Void? = await attempt { account in
            let content = try await account.encrypt(text, for: roomId)
            let transactionId = UUID().uuidString
            var tries = 1
            while true {
                do {
                    _ = try await account.homeserver.sendEncrypted(
                        content, to: roomId, transactionId: transactionId)
                    return
                } catch let error as URLError where tries < 3 && error.code != .cancelled {
                    tries += 1
                    try await Task.sleep(nanoseconds: 1_000_000_000)
                }
            }
        }
        return sent != nil
    }

    /// Reads a room's newest messages from the homeserver, and keeps what came meanwhile.
    func reloadTimeline(_ roomId: String, _ account: Account) async throws {
        // From now on the sync loop adds what it brings.
        let before = Set((state.timelines[roomId] ?? []).map(\.id))
        state.timelines[roomId] = state.timelines[roomId] ?? []
        var rows = try await account.history(of: roomId)
        let read = Dictionary(rows.map { ($0.id, $0.isReadable) }, uniquingKeysWith: { $0 || $1 })
        for row in state.timelines[roomId] ?? [] {
            // What a sync brought or opened meanwhile. Otherwise what was read now is newer, as its shield is.
            if read[row.id] == nil && !before.contains(row.id) || read[row.id] == false && row.isReadable {
                rows.upsert(row)
            }
        }
        state.timelines[roomId] = rows
    }

    /// The same for rooms that are shown. Without a network the lines are old until the room is opened again.
    func reloadTimelines(
        _ account: Account, where isOld: ([TimelineRow]) -> Bool = { _ in true }
    ) async {
        for (roomId, rows) in state.timelines where isOld(rows) { try? await reloadTimeline(roomId, account) }
    }

    private func attempt<Result: Sendable>(
        _ action: @MainActor (Account) async throws -> Result
    ) async -> Result? {
        var result: Result?
        await attempt {
            guard let account = self.account else { throw CancellationError() }
            result = try await action(account)
        }
        return result
    }
}
