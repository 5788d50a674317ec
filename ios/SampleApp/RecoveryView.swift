/// The recovery key: how it stands, having one made, and typing it on a new phone.

import MatrixMlsSampleModel
import SwiftUI

struct RecoveryView: View {
    @ObservedObject var model: SampleModel
    @State private var typed = ""

    var body: some View {
        Section("Recovery key") {
            if let key = model.state.newRecoveryKey {
                Text("Write this down. Nobody can give it to you again.")
                Text(key).font(.body.monospaced()).textSelection(.enabled)
                Button("I have written it down") { model.keyIsWrittenDown() }
            } else if let recovery = model.state.recovery {
                Text(recovery.sentence)
                if recovery.canSetUp {
                    Button("Make a recovery key") { Task { await model.setUpRecovery() } }
                }
                if recovery.canRecover {
                    TextField("EsT…", text: $typed)
                        .textInputAutocapitalization(.never)
                        .autocorrectionDisabled()
                    Button("Recover") { Task { await model.recover(typed) } }
                        .disabled(typed.isEmpty)
                }
            }
            if let restoring = model.state.restoring { Text(restoring) }
        }
        .font(.footnote)
    }
}
