/// The rooms, invitations among them, and making a new one.

import MatrixMlsSampleModel
import SwiftUI

struct RoomListView: View {
    @ObservedObject var model: SampleModel
    @State private var isMakingRoom = false

    var body: some View {
        NavigationView {
            List {
                ForEach(model.state.rooms) { room in
                    if room.isInvitation {
                        HStack {
                            Text(room.name)
                            Spacer()
                            Button("Join") { Task { await model.join(room.id) } }
                        }
                    } else {
                        NavigationLink {
                            TimelineView(model: model, room: room)
                        } label: {
                            Label(room.name, systemImage: room.usesMls ? "lock" : "lock.open")
                        }
                    }
                }
                RecoveryView(model: model)
            }
            .navigationTitle(model.state.userId ?? "Rooms")
            .toolbar {
                ToolbarItem(placement: .navigationBarLeading) {
                    Button("Log out") { Task { await model.logOut() } }
                }
                ToolbarItem(placement: .navigationBarTrailing) {
                    Button {
                        isMakingRoom = true
                    } label: {
                        Label("New room", systemImage: "plus")
                    }
                }
            }
            .sheet(isPresented: $isMakingRoom) { NewRoomView(model: model) }
        }
        .navigationViewStyle(.stack)
    }
}

/// Asks for a room's name and whom to invite.
struct NewRoomView: View {
    @ObservedObject var model: SampleModel
    @Environment(\.dismiss) private var dismiss
    @State private var name = ""
    @State private var invited = ""

    var body: some View {
        NavigationView {
            Form {
                TextField("Name", text: $name)
                TextField("@bob:example.org @carol:example.org", text: $invited)
                    .textInputAutocapitalization(.never)
                    .autocorrectionDisabled()
            }
            .navigationTitle("New MLS room")
            .toolbar {
                Button("Create") {
                    let userIds = invited.split(separator: " ").map(String.init)
                    Task {
                        if await model.createRoom(name: name, invite: userIds) != nil { dismiss() }
                    }
                }
                .disabled(name.isEmpty)
            }
        }
    }
}
