/// What is to be decided about people: whose identity is another than before, and comparing emojis.

import MatrixMlsSampleModel
import SwiftUI

/// The warnings, above whatever is shown.
struct ChangedIdentitiesView: View {
    @ObservedObject var model: SampleModel

    var body: some View {
        ForEach(model.state.changedIdentities) { changed in
            VStack(alignment: .leading, spacing: 8) {
                Label(changed.sentence, systemImage: "exclamationmark.shield.fill")
                HStack {
                    Button("It is them") { Task { await model.accept(changed) } }
                    if changed.wasVerified {
                        Button("Withdraw verification") { Task { await model.withdraw(changed) } }
                    }
                    Button("Verify") { Task { await model.verify(changed.id) } }
                }
                .buttonStyle(.bordered)
            }
            .font(.footnote)
            .frame(maxWidth: .infinity, alignment: .leading)
            .padding(8)
            .background(Color.red.opacity(0.2))
        }
    }
}

/// Comparing emojis with somebody.
struct ComparisonView: View {
    @ObservedObject var model: SampleModel
    let comparison: Comparison

    var body: some View {
        VStack(spacing: 16) {
            Text(comparison.sentence).font(.headline)
            if let shown = comparison.shown {
                ForEach(Array(shown.enumerated()), id: \.offset) { Text($0.element).font(.title2) }
                Button("They match") { Task { await model.match(comparison) } }
                Button("They differ", role: .destructive) { Task { await model.mismatch(comparison) } }
            }
            if comparison.isQuestion {
                Button("Compare") { Task { await model.answer(comparison) } }
            }
            Button(comparison.isOver ? "Close" : "Cancel") { Task { await model.leave(comparison) } }
        }
        .buttonStyle(.bordered)
        .padding()
    }
}

/// The shield beside a message.
struct ShieldView: View {
    let shield: RowShield

    var body: some View {
        Image(systemName: shield.isRed ? "exclamationmark.shield" : "shield")
            .foregroundColor(shield.isRed ? .red : .gray)
            .accessibilityLabel(shield.sentence)
        Text(shield.sentence)
            .foregroundColor(shield.isRed ? .red : .gray)
    }
}
