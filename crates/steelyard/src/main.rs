//! `steelyard`: one binary for the Global Controller, the Site Controller, the simulated datacenter, and the command line.

mod cli;
mod serve;
mod up;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};

/// Gives memory back that a large deploy took for a moment.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Draw the infrastructure you want; it becomes real.
#[derive(Parser)]
#[command(name = "steelyard", version, about, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    connection: cli::Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a Global Controller, a Site Controller and a simulated datacenter on this machine, and register its hardware
    Up(up::Options),
    /// The same from scratch, with a sample infrastructure deployed
    Demo(up::DemoOptions),
    /// Run a Global Controller
    Global(serve::Options),
    /// Run a simulated datacenter
    Yard(serve::Options),
    /// Log in and remember the API key
    Login(cli::Login),
    /// Sites; without a verb: run a Site Controller
    #[command(args_conflicts_with_subcommands = true)]
    Site {
        #[command(flatten)]
        options: serve::SiteOptions,
        #[command(subcommand)]
        verb: Option<cli::Verb>,
    },
    /// A verb on any kind
    #[command(flatten)]
    Kind(cli::kinds::KindCommand),
    /// Plan and deploy an infrastructure
    Deploy {
        /// Id or label
        infrastructure: String,
        #[command(flatten)]
        options: cli::watch::DeployOptions,
    },
    /// Make an infrastructure's design what a document says
    Apply {
        /// YAML file; `-` for standard input
        #[arg(long, short)]
        file: String,
        /// Deploy it too
        #[arg(long)]
        deploy: bool,
        #[command(flatten)]
        options: cli::watch::DeployOptions,
    },
    /// Print an infrastructure's design as a document
    Export {
        /// Id or label
        infrastructure: String,
    },
    /// Check a cleaning certificate, without any server
    VerifyCertificate {
        /// The answer of `GET /servers/cleaning-certificates/ID` as a file; `-` for standard input
        file: String,
        /// Public key of the site (`statements.pub` in its data folder)
        #[arg(long)]
        key: Option<String>,
    },
    /// Print a completion script
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: cannot start: {e}");
            return std::process::ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider is installed already"))?;
    let c = &cli.connection;
    match cli.command {
        Command::Global(options) => serve::global(options).await,
        Command::Login(login) => cli::login(c, login).await,
        Command::Up(options) => up::up(options).await,
        Command::Demo(options) => up::demo(options).await,
        Command::Yard(options) => serve::yard(options).await,
        Command::Site { options, verb: None } => serve::site(options).await,
        Command::Site { verb: Some(verb), .. } => cli::run(c, cli::kinds::by_name("site")?, verb).await,
        Command::Kind(command) => cli::run(c, command.kind, command.verb).await,
        Command::Deploy { infrastructure, options } => {
            let client = c.client()?;
            let kind = cli::kinds::by_name("infrastructure")?;
            let id = kind.id_of(&kind.find(&client, &infrastructure, None).await?.1)?.parse()?;
            cli::watch::deploy(&client, id, &options).await?;
            access(&client, id, options.watch).await
        }
        Command::Apply { file, deploy, options } => {
            let client = c.client()?;
            let (id, log) = cli::apply::apply(&client, &cli::apply::document(&file)?).await?;
            for line in &log {
                eprintln!("  {line}");
            }
            eprintln!("infrastructure {id}: {} change(s) to the design", log.len());
            if deploy {
                cli::watch::deploy(&client, id, &options).await?;
                access(&client, id, options.watch).await?;
            }
            Ok(())
        }
        Command::Export { infrastructure } => {
            let document = cli::apply::export(&c.client()?, &infrastructure).await?;
            print!("{}", serde_yaml_ng::to_string(&document)?);
            Ok(())
        }
        Command::VerifyCertificate { file, key } => cli::certificate::verify(&file, key.as_deref()),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "steelyard", &mut std::io::stdout());
            Ok(())
        }
    }
}

async fn access(client: &client::Client, infrastructure: i64, wanted: bool) -> Result<()> {
    if !wanted {
        return Ok(());
    }
    let mut table = cli::output::table();
    table.set_header(["SERVER", "ADDRESSES", "USER"]);
    for (label, addresses, user) in cli::watch::access(client, infrastructure).await? {
        table.add_row([label, addresses, user]);
    }
    println!("{table}");
    Ok(())
}
