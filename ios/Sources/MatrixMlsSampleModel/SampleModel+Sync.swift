/// The model's loop: what comes from the homeserver and what the engine wants sent, each at its own pace, so that a
/// request that has to wait does not hold up what arrives.

import Foundation
import MatrixMls

extension SampleModel {
    /// Syncs until cancelled or logged out: both connections, each at its own pace.
    func syncLoop(_ account: Account) async {
        await withTaskGroup(of: Bool.self) { connections in
            connections.addTask { @MainActor in await self.keepSyncing { try await self.syncRooms(account, $0) } }
            connections.addTask { @MainActor in await self.keepSyncing { try await self.syncEncryption(account, $0) } }
            let isLoggedOut = await connections.next() ?? false
            connections.cancelAll()
            // Not from within the loop, which this ends and waits for.
            if isLoggedOut { Task { await self.loggedOutByHomeserver() } }
        }
    }

    /// Syncs one connection until cancelled or logged out; tells whether it was logged out.
    private func keepSyncing(_ sync: @MainActor (_ timeoutMs: Int) async throws -> Void) async -> Bool {
        // The first one must not wait: there may be nothing to come.
        var (timeoutMs, failures) = (0, 0)
        while !Task.isCancelled {
            do {
                try await sync(timeoutMs)
                (timeoutMs, failures) = (syncTimeoutMs, 0)
                state.connection = .online
                wake()
            } catch let error as HomeserverError where error.isLoggedOut {
                return true
            } catch {
                if Task.isCancelled { break }
                state.connection = .offline(describe(error))
                failures += 1
                let seconds = min(1 << min(failures, 5), 30)
                try? await Task.sleep(nanoseconds: UInt64(seconds) * 1_000_000_000)
            }
        }
        return false
    }

    /// Sends what the engine has to send, whenever it is woken, until cancelled.
    func sendLoop(_ account: Account, _ wakes: AsyncStream<Void>) async {
        for await _ in wakes {
            do {
                let driven = try await account.machine.drive(account.homeserver.transport)
                if let refusal = driven.refused.first {
                    state.problem = "\(refusal.reason) (\(refusal.code))"
                }
            } catch {
                if Task.isCancelled { return }
                state.problem = describe(error)
            }
        }
    }

    private func syncRooms(_ account: Account, _ timeoutMs: Int) async throws {
        let request = try SlidingSync.roomList(rooms: roomWindow, timelineLimit: timelineLimit)
        let (news, summary) = try await account.sync(request, pos: progress.roomListPos, timeoutMs: timeoutMs)
        show(summary, news)
        await fillGaps(news, account)
        list(news, try await account.machine.rooms())
        roomWindow = max(roomWindow, news.lists?["all"]?.count ?? 0)
        progress.roomListPos = news.pos
        progress.rooms = state.rooms
        // Only now: what the engine did not take in would never come again.
        try places.write(progress)
    }

    private func syncEncryption(_ account: Account, _ timeoutMs: Int) async throws {
        let request = try SlidingSync.encryption(since: progress.toDeviceSince)
        let (news, summary) = try await account.sync(request, pos: encryptionPos, timeoutMs: timeoutMs)
        show(summary, news)
        encryptionPos = news.pos
        progress.toDeviceSince = news.extensions?.to_device?.next_batch ?? progress.toDeviceSince
        try places.write(progress)
    }

    /// Reads anew what a sync left out of the timelines that are shown. The engine fetches what it needs by itself.
    private func fillGaps(_ news: SyncNews, _ account: Account) async {
        for (roomId, room) in news.rooms ?? [:] where room.limited == true && state.timelines[roomId] != nil {
            do {
                try await reloadTimeline(roomId, account)
            } catch {
                if !Task.isCancelled { state.problem = describe(error) }
            }
        }
    }

    /// Adds to the timelines that are shown what the engine made of the rooms' events.
    private func show(_ summary: SyncSummary, _ news: SyncNews) {
        for room in summary.rooms where state.timelines[room.roomId] != nil {
            let events = news.rooms?[room.roomId]?.timeline ?? []
            for result in room.events {
                guard let row = row(result, events.first { $0.eventId == result.eventId }) else { continue }
                state.timelines[room.roomId]?.upsert(row)
            }
        }
    }

    /// What a timeline shows of an event. One that has waited has its result in a later sync, which does not have the event.
    private func row(_ result: EventResult, _ event: Event?) -> TimelineRow? {
        guard let id = result.eventId else { return nil }
        switch result.outcome {
        case .message(let message):
            return TimelineRow(id: id, message)
        case .waiting(let error), .failed(let error):
            guard let event, event.isEncryptedMessage else { return nil }
            return TimelineRow(id: id, sender: event.sender, error)
        case .ignored, .state, .commit, .duplicate:
            return nil
        }
    }

    /// Brings the room list up to date.
    private func list(_ news: SyncNews, _ mlsRooms: [String]) {
        var rooms = Dictionary(uniqueKeysWithValues: state.rooms.map { ($0.id, $0) })
        for (id, news) in news.rooms ?? [:] {
            // The state is that after the timeline.
            let events = (news.invite_state ?? []) + (news.timeline ?? []) + (news.required_state ?? [])
            let memberships = events.compactMap(\.membership)
            if let own = memberships.last(where: { $0.userId == state.userId }), ["leave", "ban"].contains(own.is) {
                rooms[id] = nil
                state.timelines[id] = nil
                continue
            }
            var row = rooms[id] ?? RoomRow(id: id, name: id, isInvitation: false, usesMls: false)
            row.isInvitation = news.invite_state != nil
            row.name = events.compactMap(\.roomName).last ?? news.name ?? row.name
            row.joinedCount = news.joined_count ?? row.joinedCount
            for member in memberships {
                if member.is == "join" {
                    row.joined.insert(member.userId)
                } else {
                    row.joined.remove(member.userId)
                }
            }
            rooms[id] = row
        }
        for id in rooms.keys { rooms[id]?.usesMls = mlsRooms.contains(id) }
        let sorted = rooms.values.sorted { ($0.name, $0.id) < ($1.name, $1.id) }
        if sorted != state.rooms { state.rooms = sorted }
    }
}
