/// The sample app: a window over the model, which is opened, suspended and resumed as the system says.

import MatrixMlsKeychain
import MatrixMlsSampleModel
import SwiftUI

@main
struct ChatApp: App {
    @StateObject private var model = ChatApp.makeModel()
    @Environment(\.scenePhase) private var scenePhase

    var body: some Scene {
        WindowGroup {
            ContentView(model: model)
                .task { await model.start() }
        }
        .onChange(of: scenePhase) { phase in
            switch phase {
            case .active:
                // A first start may have met a Keychain that was still locked.
                Task { await model.start() }
                model.resume()
            case .background:
                Task { await BackgroundTime.use("suspend") { await model.suspend() } }
            default:
                break
            }
        }
    }

    @MainActor
    private static func makeModel() -> SampleModel {
        guard let places = Places(appGroup: Settings.appGroup) else {
            preconditionFailure("the app is not entitled to \(Settings.appGroup)")
        }
        let vault = Vault(keychain: AppleKeychain(), accessGroup: Settings.keychainGroup)
        return SampleModel(places: places, vault: vault)
    }
}

/// The screen for where the app is.
struct ContentView: View {
    @ObservedObject var model: SampleModel

    var body: some View {
        VStack(spacing: 0) {
            if case .offline(let reason) = model.state.connection {
                Banner(text: reason)
            }
            if let problem = model.state.problem {
                Banner(text: problem)
            }
            ChangedIdentitiesView(model: model)
            if let comparison = model.state.comparison {
                ComparisonView(model: model, comparison: comparison)
            }
            switch model.state.phase {
            case .starting:
                StartingView(model: model)
            case .loggedOut, .loggingIn:
                LoginView(model: model)
            case .running:
                RoomListView(model: model)
            }
        }
    }
}

/// Shown until the store is open, and when it does not open.
struct StartingView: View {
    @ObservedObject var model: SampleModel

    var body: some View {
        VStack(spacing: 16) {
            Spacer()
            ProgressView()
            if model.state.problem != nil {
                Button("Try again") { Task { await model.start() } }
                Button("Delete everything and log in again", role: .destructive) {
                    Task { await model.startOver() }
                }
            }
            Spacer()
        }
    }
}

/// A sentence at the top of the screen.
struct Banner: View {
    let text: String

    var body: some View {
        Text(text)
            .font(.footnote)
            .frame(maxWidth: .infinity)
            .padding(8)
            .background(Color.yellow.opacity(0.3))
    }
}
