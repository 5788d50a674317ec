/// The model's loop: what comes from the homeserver and what the engine wants sent, each at its own pace, so that a
/// request that has to wait does not hold up what arrives.

import Foundation
import MatrixMls

extension SampleModel {
    /// Syncs until cancelled or logged out.
    func syncLoop(_ account: Account) async {
        var failures = 0
        while !Task.isCancelled {
            do {
                try await syncOnce(account)
                failures = 0
                state.connection = .online
            } catch let error as HomeserverError where error.isLoggedOut {
                // Not from within the loop, which this ends and waits for.
                Task { await self.loggedOutByHomeserver() }
                return
            } catch {
                if Task.isCancelled { return }
                state.connection = .offline(describe(error))
                failures += 1
                let seconds = min(1 << min(failures, 5), 30)
                try? await Task.sleep(nanoseconds: UInt64(seconds) * 1_000_000_000)
            }
        }
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

    private func syncOnce(_ account: Account) async throws {
        let since = progress.nextBatch
        // The first one must not wait: there may be nothing to come.
        let response = try await account.homeserver.sync(
            since: since, timeoutMs: since == nil ? 0 : syncTimeoutMs, timelineLimit: timelineLimit)
        let changes = try SyncChanges.fromSyncResponse(response, since: since)
        let news = try SyncNews(response)
        let summary = try await account.machine.receiveSync(changes: changes)
        for room in summary.rooms { show(room.events, in: room.roomId, news) }
        if let since { try await fillGaps(news, since, account) }
        list(news, try await account.machine.rooms())
        progress.nextBatch = changes.nextBatch
        progress.rooms = state.rooms
        // Only now: what the engine did not take in would never come again.
        try places.write(progress)
        wake()
    }

    /// Fetches what the sync left out of timelines that went on for too long.
    private func fillGaps(_ news: SyncNews, _ since: String, _ account: Account) async throws {
        for (roomId, room) in news.rooms?.join ?? [:] where room.timeline?.limited == true {
            guard let newer = room.timeline?.prev_batch else { continue }
            do {
                let results = try await account.fillGap(in: roomId, before: newer, downTo: since)
                show(results, in: roomId, news)
                // What was filled in belongs before what is shown.
                if state.timelines[roomId] != nil { try await reloadTimeline(roomId, account) }
            } catch let error as HomeserverError where error.isFinal {
                // The room was left meanwhile, say. The other rooms go on.
                state.problem = describe(error)
            }
        }
    }

    /// Adds to a timeline what the engine made of a room's events.
    private func show(_ results: [EventResult], in roomId: String, _ news: SyncNews) {
        guard state.timelines[roomId] != nil else { return }
        let events = news.rooms?.join?[roomId]?.timeline?.events ?? []
        for result in results {
            guard let id = result.eventId else { continue }
            switch result.outcome {
            case .message(let message):
                state.timelines[roomId]?.upsert(TimelineRow(id: id, message))
            case .waiting(let error), .failed(let error):
                guard let event = events.first(where: { $0.eventId == id }), event.isEncryptedMessage else {
                    continue
                }
                let row = TimelineRow(id: id, sender: event.sender, code: error.code)
                state.timelines[roomId]?.upsert(row)
            case .ignored, .state, .commit, .duplicate:
                continue
            }
        }
    }

    /// Brings the room list up to date.
    private func list(_ news: SyncNews, _ mlsRooms: [String]) {
        var rooms = Dictionary(uniqueKeysWithValues: state.rooms.map { ($0.id, $0) })
        func update(_ id: String, isInvitation: Bool, _ events: [Event]) {
            var row = rooms[id] ?? RoomRow(id: id, name: id, isInvitation: isInvitation, usesMls: false)
            row.isInvitation = isInvitation
            row.name = events.compactMap(\.roomName).last ?? row.name
            for member in events.compactMap(\.membership) {
                if member.is == "join" {
                    row.joined.insert(member.userId)
                } else {
                    row.joined.remove(member.userId)
                }
            }
            rooms[id] = row
        }
        for (id, room) in news.rooms?.invite ?? [:] {
            update(id, isInvitation: true, room.invite_state?.events ?? [])
        }
        for (id, room) in news.rooms?.join ?? [:] {
            update(id, isInvitation: false, (room.state?.events ?? []) + (room.timeline?.events ?? []))
        }
        for id in (news.rooms?.leave ?? [:]).keys {
            rooms[id] = nil
            state.timelines[id] = nil
        }
        for id in rooms.keys { rooms[id]?.usesMls = mlsRooms.contains(id) }
        let sorted = rooms.values.sorted { ($0.name, $0.id) < ($1.name, $1.id) }
        if sorted != state.rooms { state.rooms = sorted }
    }
}
