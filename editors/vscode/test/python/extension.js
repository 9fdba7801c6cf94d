// Says that the interpreter is selected which the setting `test.python` names.

const vscode = require("vscode");

const path = () => vscode.workspace.getConfiguration("test").get("python", "");

exports.activate = () => ({
  environments: {
    onDidChangeActiveEnvironmentPath: (listener) =>
      vscode.workspace.onDidChangeConfiguration(
        (event) => event.affectsConfiguration("test.python") && listener(),
      ),
    getActiveEnvironmentPath: () => ({ path: path() }),
    resolveEnvironment: async (environment) => ({
      executable: { uri: vscode.Uri.file(environment.path) },
    }),
  },
});
