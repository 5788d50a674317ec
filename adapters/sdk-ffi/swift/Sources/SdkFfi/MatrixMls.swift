// The generated code of the SDK's namespace names types of `matrix_mls`. They are in a module of their own, because both
// have types of the same name, and the generator writes no import. One in any file is enough for all of the module.

@_exported import MatrixMls
