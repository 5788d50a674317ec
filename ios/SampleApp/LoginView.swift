/// Logging in, and making an account on a homeserver that lets anybody.

import MatrixMlsSampleModel
import SwiftUI

struct LoginView: View {
    @ObservedObject var model: SampleModel
    @State private var homeserver = "https://matrix.example.org"
    @State private var user = ""
    @State private var password = ""

    private var isBusy: Bool { model.state.phase == .loggingIn }

    var body: some View {
        Form {
            Section("Homeserver") {
                TextField("https://…", text: $homeserver)
                    .keyboardType(.URL)
                    .textInputAutocapitalization(.never)
                    .autocorrectionDisabled()
            }
            Section("Account") {
                TextField("User name", text: $user)
                    .textContentType(.username)
                    .textInputAutocapitalization(.never)
                    .autocorrectionDisabled()
                SecureField("Password", text: $password)
                    .textContentType(.password)
            }
            Section {
                Button("Log in") {
                    Task { await model.logIn(homeserver: homeserver, user: user, password: password) }
                }
                Button("Create account") {
                    Task { await model.register(homeserver: homeserver, user: user, password: password) }
                }
                if isBusy { ProgressView() }
            }
            .disabled(isBusy || user.isEmpty || password.isEmpty)
        }
    }
}
