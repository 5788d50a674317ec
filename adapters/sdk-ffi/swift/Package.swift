// swift-tools-version: 5.9
// An app on the one library. `cargo xtask test` writes what is not kept in git:
//
// - Sources/Headers: the C headers of every namespace, and one module map for all of them;
// - Sources/MatrixMls: the generated code of the namespace `matrix_mls`, and the layer of bindings/swift;
// - Sources/SdkFfi/Generated: the generated code of all other namespaces, in one module as the SDK has it.
import PackageDescription

let package = Package(
    name: "OneLibraryApp",
    platforms: [.iOS(.v15), .macOS(.v12)],
    targets: [
        .systemLibrary(name: "Headers"),
        .target(
            name: "MatrixMls", dependencies: ["Headers"], linkerSettings: [.linkedLibrary("sdk_ffi")]),
        .target(name: "SdkFfi", dependencies: ["Headers", "MatrixMls"]),
        .testTarget(name: "AppTests", dependencies: ["MatrixMls", "SdkFfi"]),
    ],
    swiftLanguageVersions: [.v5]
)
