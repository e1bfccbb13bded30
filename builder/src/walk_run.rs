//! RUN of a stage: its command, its environment and its mounts, checked before anything runs.

use grammar::{CommandLine, Instruction, Located, Run};

use crate::error::Result;
use crate::perform::SCRIPTS;
use crate::plan::{Network, Op, RunOp, Script};
use crate::stages::Input;
use crate::walk::StageWalk;

impl StageWalk<'_> {
    pub(crate) fn run(&mut self, run: &Run, index: Option<usize>, located: &Located<Instruction>) -> Result<()> {
        let (mounts, inputs) = self.run_mounts(run, index)?;
        self.check_entitlements(run, located.span);
        let devices = self.run_devices(run)?;
        let (argv, script) = self.run_command(run);
        let network = match run.network.as_deref() {
            None | Some("default") => match self.options.network {
                runtime::NetworkMode::Host => Network::Host,
                _ => Network::None,
            },
            Some("none") => Network::None,
            Some(_) => Network::Host,
        };
        let op = RunOp {
            env: self.scope.pairs().to_vec(),
            hidden_env: self.options.proxies(),
            cwd: self.state.working_dir().to_owned(),
            user: self.state.image.config.user.clone(),
            network,
            insecure: run.security.as_deref() == Some("insecure"),
            platform: self.files_platform.clone(),
            mounts,
            devices,
            script,
            argv: argv.clone(),
        };
        self.layer(Op::Run(op), inputs, located);
        self.state.record_layer(format!("RUN {}{} # buildkit", self.shown_args(), argv.join(" ")));
        Ok(())
    }

    /// What the mounts of an instruction take from elsewhere, in the order of the mounts.
    pub(crate) fn mount_origins(&self, index: Option<usize>) -> Vec<Input> {
        let inputs = self.stages.inputs.get(self.stage.index).into_iter().flatten();
        inputs.filter(|input| Some(input.instruction) == index).cloned().collect()
    }

    /// The argument vector; a lone heredoc is the script itself, run by its `#!` interpreter when it names one.
    fn run_command(&self, run: &Run) -> (Vec<String>, Option<Script>) {
        if let Some(heredoc) = run.script() {
            let body = heredoc.body().into_owned();
            let mut argv = self.state.shell();
            if body.starts_with("#!") {
                // A name is no path: `<<../x` stays below.
                let path = format!("{SCRIPTS}/{}", heredoc.name.replace('/', "_"));
                argv.push(path.clone());
                return (argv, Some(Script { path, body }));
            }
            argv.push(body);
            return (argv, None);
        }
        let mut argv = self.command(&run.command);
        if let (CommandLine::Shell(_), Some(text)) = (&run.command, argv.last_mut()) {
            for heredoc in &run.heredocs {
                text.push('\n');
                text.push_str(&heredoc.content);
                text.push_str(&heredoc.name);
            }
        }
        (argv, None)
    }

    /// `|N A=v … `: the ARGs of the stage before a RUN, as history shows them.
    fn shown_args(&self) -> String {
        if self.args.is_empty() {
            return String::new();
        }
        let args: Vec<String> =
            self.args.iter().map(|arg| format!("{}={}", arg.name, arg.value.as_deref().unwrap_or_default())).collect();
        format!("|{} {} ", args.len(), args.join(" "))
    }
}
