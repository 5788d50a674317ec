/// One room: what was said, and saying something.

import MatrixMlsSampleModel
import SwiftUI

struct TimelineView: View {
    @ObservedObject var model: SampleModel
    let room: RoomRow
    @State private var draft = ""
    @State private var isSending = false

    private var title: String { room.joinedCount.map { "\(room.name) (\($0))" } ?? room.name }
    private var rows: [TimelineRow] { model.state.timelines[room.id] ?? [] }

    var body: some View {
        VStack(spacing: 0) {
            ScrollViewReader { scroll in
                List(rows) { row in
                    MessageView(row: row, isOwn: row.sender == model.state.userId)
                        .listRowSeparator(.hidden)
                }
                .listStyle(.plain)
                .onChange(of: rows.last?.id) { last in
                    if let last { scroll.scrollTo(last, anchor: .bottom) }
                }
            }
            HStack {
                TextField("Message", text: $draft)
                    .textFieldStyle(.roundedBorder)
                Button("Send", action: send)
                    .disabled(draft.isEmpty || isSending)
            }
            .padding()
        }
        .navigationTitle(title)
        .navigationBarTitleDisplayMode(.inline)
        .toolbar {
            ForEach(room.joined.subtracting([model.state.userId ?? ""]).sorted(), id: \.self) { userId in
                Button("Verify \(userId)") { Task { await model.verify(userId) } }
            }
        }
        .task { await model.openTimeline(room.id) }
    }

    private func send() {
        let text = draft
        isSending = true
        Task {
            // The draft stays until the homeserver has the message.
            let sent = await BackgroundTime.use("send") { await model.send(text, to: room.id) }
            if sent && draft == text { draft = "" }
            isSending = false
        }
    }
}

/// One message.
struct MessageView: View {
    let row: TimelineRow
    let isOwn: Bool

    var body: some View {
        VStack(alignment: isOwn ? .trailing : .leading, spacing: 2) {
            Text(row.sender)
                .font(.caption)
                .foregroundColor(.secondary)
            switch row.content {
            case .text(let text):
                Text(text)
            case .unreadable(let why):
                Text(why).italic().foregroundColor(.secondary)
            }
            if let shield = row.shield {
                HStack(spacing: 4) { ShieldView(shield: shield) }.font(.caption)
            }
        }
        .frame(maxWidth: .infinity, alignment: isOwn ? .trailing : .leading)
    }
}
