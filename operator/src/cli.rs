//! The command line: options, their environment variables, and how they become settings.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use alignment_api::Origin;
use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::quantity::{Cpu, Memory};
use crate::settings::{Authorities, Settings, Templates};

/// Runs AlignmentRequest and DepthMapRequest resources as Kubernetes Jobs.
#[derive(Debug, Parser)]
#[command(name = "operator", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch requests and run them, until SIGTERM.
    Run(Box<RunArguments>),
    /// Print the custom resource definitions as YAML.
    Crd,
    /// Print the Job that a request would get as YAML, or everything that is wrong with it. Needs
    /// no cluster.
    Explain(Box<ExplainArguments>),
    /// Serve the HTTP interface of the old service: it makes requests in the cluster and tells how
    /// they stand. Until SIGTERM.
    Gateway(Box<GatewayArguments>),
    /// Load the templates into a volume, or check what is there. Needs no cluster.
    StaticData {
        /// Which of the two.
        #[command(subcommand)]
        command: StaticData,
    },
}

/// What to do with static data.
#[derive(Debug, Subcommand)]
pub enum StaticData {
    /// Fetch the files of a manifest into a folder of their own, and switch to it once every one of
    /// them is there and has its digest. May be stopped at any time, and goes on from there.
    Load(LoadArguments),
    /// Check every file. Ends with 68 if anything is wrong.
    Verify(VerifyArguments),
}

/// Options of `static-data load`.
#[derive(Debug, Args)]
pub struct LoadArguments {
    /// Root folder of the static data.
    pub root: PathBuf,
    /// YAML or JSON: `files`, a list of {path, source, sha256, bytes}. A source is a URL or a file.
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    /// Origin on the public internet that a server may redirect to; may be repeated. Those of the
    /// manifest's URLs are allowed anyway.
    #[arg(long, value_name = "https://HOST", value_delimiter = ',', value_parser = Origin::parse)]
    pub allow_origin: Vec<Origin>,
    /// Origin that may have private addresses, such as a service of the cluster; may be repeated.
    #[arg(long, value_name = "http://HOST", value_delimiter = ',', value_parser = Origin::parse)]
    pub allow_private_origin: Vec<Origin>,
    /// Certificate authorities (PEM) to trust in place of the built-in ones.
    #[arg(long, env = "CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Older versions to keep; the rest is removed. Omitted: all are kept.
    #[arg(long, value_name = "N")]
    pub keep_old: Option<usize>,
}

/// Options of `static-data verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// Root folder of the static data.
    pub root: PathBuf,
    /// What should be there. Omitted: what the folder's own manifests say.
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// The files were copied by hand: they lie at their paths right below the root.
    #[arg(long, requires = "manifest")]
    pub in_place: bool,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Namespace to watch; may be repeated, or separated by commas. Omitted: the operator's own.
    #[arg(long = "namespace", env = "WATCH_NAMESPACES", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Watch every namespace.
    #[arg(long, env = "ALL_NAMESPACES", conflicts_with = "namespaces")]
    pub all_namespaces: bool,
    /// The operator's own namespace: for the Lease, and the default of --namespace.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub pod_namespace: String,
    /// Name of this replica, as holder of the Lease.
    #[arg(long, env = "POD_NAME", default_value = "operator")]
    pub pod_name: String,
    /// Work only while holding the Lease `voluba-align-operator`.
    #[arg(long, env = "LEADER_ELECT")]
    pub leader_elect: bool,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Form of the log on standard error. Its level: RUST_LOG.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Collector of traces, `http://HOST:PORT`: OTLP over gRPC. Omitted: no traces.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// What the installation decides about Jobs.
    #[command(flatten)]
    pub installation: Installation,
}

/// Options of `gateway`.
#[derive(Debug, Args)]
pub struct GatewayArguments {
    /// Namespace that requests are made in.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// Address of the interface.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "ADMIN_LISTEN", default_value = "0.0.0.0:8081")]
    pub admin_listen: SocketAddr,
    /// Origin of pages that may call the interface, such as https://HOST; may be repeated. Compared
    /// as a whole. Omitted: none.
    #[arg(long, env = "CORS_ORIGINS", value_delimiter = ',', value_parser = Origin::parse)]
    pub cors_origin: Vec<Origin>,
    /// Browsers keep the answer to the question whether they may call for so many seconds.
    #[arg(
        long,
        env = "CORS_MAX_AGE",
        value_name = "SECONDS",
        default_value_t = 600
    )]
    pub cors_max_age: u64,
    /// Believe X-Forwarded-Prefix, as the nearest proxy sets it.
    #[arg(long, env = "TRUST_PROXY")]
    pub trust_proxy: bool,
    /// Origin of image services on the public internet; may be repeated. Omitted: none.
    #[arg(long, env = "ALLOWED_ORIGINS", value_delimiter = ',', value_parser = Origin::parse)]
    pub allow_origin: Vec<Origin>,
    /// Origin of image services that may have private addresses; may be repeated.
    #[arg(
        long,
        env = "ALLOWED_PRIVATE_ORIGINS",
        value_delimiter = ',',
        value_parser = Origin::parse
    )]
    pub allow_private_origin: Vec<Origin>,
    /// Certificate authorities (PEM) to trust in place of the built-in ones.
    #[arg(long, env = "CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// What is answered about an identifier that nobody knows: a computation that failed, or 404.
    #[arg(long, env = "UNKNOWN_REQUEST", value_enum, default_value_t = UnknownRequest::Failed)]
    pub unknown_request: UnknownRequest,
    /// Requests that were made here are deleted so many seconds after their end.
    #[arg(long, env = "KEEP_SECONDS", value_name = "SECONDS", default_value_t = 30 * 86_400)]
    pub keep_seconds: u64,
    /// Provider of OpenID Connect whose tokens say who calls /v1, as their claim `iss` has it. Only
    /// with --oidc-audience.
    #[arg(
        long,
        env = "OIDC_ISSUER",
        value_name = "URL",
        requires = "oidc_audience"
    )]
    pub oidc_issuer: Option<String>,
    /// What the tokens' claim `aud` must hold.
    #[arg(
        long,
        env = "OIDC_AUDIENCE",
        value_name = "NAME",
        requires = "oidc_issuer"
    )]
    pub oidc_audience: Option<String>,
    /// The page's name at the provider, as a public client: it signs people in there. Omitted: they paste a
    /// token.
    #[arg(
        long,
        env = "OIDC_CLIENT_ID",
        value_name = "NAME",
        requires = "oidc_issuer"
    )]
    pub oidc_client_id: Option<String>,
    /// What the page asks the provider for, separated by spaces.
    #[arg(
        long,
        env = "OIDC_SCOPE",
        value_name = "SCOPE",
        default_value = "openid"
    )]
    pub oidc_scope: String,
    /// Instead of a provider, the cluster says who calls /v1: its tokens for this audience are taken.
    #[arg(
        long,
        env = "TOKEN_REVIEW_AUDIENCE",
        value_name = "NAME",
        conflicts_with = "oidc_issuer"
    )]
    pub token_review_audience: Option<String>,
    /// Calls of /v1 that one caller may make in a minute, counted in each replica.
    #[arg(
        long,
        env = "CALLS_PER_MINUTE",
        value_name = "NUMBER",
        default_value = "300"
    )]
    pub calls_per_minute: NonZero<u32>,
    /// Where /source leads. Omitted: nowhere, 404.
    #[arg(long, env = "SOURCE_URL", value_name = "URL")]
    pub source_url: Option<String>,
    /// Form of the log on standard error. Its level: RUST_LOG.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
}

/// What is answered about an identifier that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UnknownRequest {
    /// 200: a computation that failed.
    Failed,
    /// 404.
    NotFound,
}

impl RunArguments {
    /// Namespaces to watch; none for all.
    pub fn watched(&self) -> Vec<String> {
        let named: Vec<_> = self
            .namespaces
            .iter()
            .filter(|name| !name.is_empty())
            .collect();
        if self.all_namespaces {
            return Vec::new();
        }
        if named.is_empty() {
            return vec![self.pod_namespace.clone()];
        }
        named.into_iter().cloned().collect()
    }
}

/// Options of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The request, YAML or JSON; `-` reads standard input.
    pub request: PathBuf,
    /// What the installation decides about Jobs.
    #[command(flatten)]
    pub installation: Installation,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// What the installation decides about Jobs.
#[derive(Debug, Args)]
pub struct Installation {
    /// Image of the aligner.
    #[arg(long, env = "ALIGNER_IMAGE", default_value = concat!("voluba-aligner:", env!("CARGO_PKG_VERSION")))]
    pub aligner_image: String,
    /// Always, IfNotPresent or Never.
    #[arg(long, env = "ALIGNER_IMAGE_PULL_POLICY", value_parser = ["Always", "IfNotPresent", "Never", ""])]
    pub aligner_image_pull_policy: Option<String>,
    /// Secret for pulling the image; may be repeated, or separated by commas.
    #[arg(
        long = "image-pull-secret",
        env = "IMAGE_PULL_SECRETS",
        value_delimiter = ','
    )]
    pub image_pull_secrets: Vec<String>,
    /// Service account of aligner pods. Omitted: the namespace's default. No token is mounted.
    #[arg(long, env = "ALIGNER_SERVICE_ACCOUNT")]
    pub aligner_service_account: Option<String>,
    /// Claim with the templates, in each request's namespace.
    #[arg(long, env = "STATIC_DATA_CLAIM", default_value = "voluba-static-data")]
    pub static_data_claim: String,
    /// YAML or JSON list of {name, path, sha256, default}; paths are relative to the static-data claim.
    /// Omitted: one template, bigbrain at bigbrain/depth.nii.gz.
    #[arg(long, env = "TEMPLATES_FILE")]
    pub templates_file: Option<String>,
    /// Memory of a request that asks for none.
    #[arg(long, env = "DEFAULT_MEMORY", default_value = "4Gi")]
    pub default_memory: Memory,
    /// CPU of a request that asks for none.
    #[arg(long, env = "DEFAULT_CPU", default_value = "2")]
    pub default_cpu: Cpu,
    /// Most memory that a request may get. Omitted: no limit.
    #[arg(long, env = "MAX_MEMORY")]
    pub max_memory: Option<Memory>,
    /// Most CPU that a request may get. Omitted: no limit.
    #[arg(long, env = "MAX_CPU")]
    pub max_cpu: Option<Cpu>,
    /// Origin on the public internet, such as https://HOST, that requests may name; may be
    /// repeated. Omitted: none.
    #[arg(long, env = "ALLOWED_ORIGINS", value_delimiter = ',', value_parser = Origin::parse)]
    pub allow_origin: Vec<Origin>,
    /// Origin that requests may name and that may have private addresses; may be repeated.
    #[arg(
        long,
        env = "ALLOWED_PRIVATE_ORIGINS",
        value_delimiter = ',',
        value_parser = Origin::parse
    )]
    pub allow_private_origin: Vec<Origin>,
    /// ConfigMap with the certificate authorities (PEM) that aligner pods trust in place of the built-in
    /// ones, in each request's namespace. Omitted: none.
    #[arg(long, env = "AUTHORITIES_CONFIG_MAP", value_name = "NAME")]
    pub authorities_config_map: Option<String>,
    /// Its key.
    #[arg(
        long,
        env = "AUTHORITIES_KEY",
        value_name = "KEY",
        default_value = "ca-bundle.crt"
    )]
    pub authorities_key: String,
    /// Scratch space of a pod with downloads or uploads; half of it is for downloads.
    #[arg(long, env = "SCRATCH_LIMIT", default_value = "20Gi")]
    pub scratch_limit: Memory,
}

impl Installation {
    /// Reads the templates and checks the limits.
    ///
    /// # Errors
    /// If the templates cannot be used or a default exceeds its limit.
    pub fn settings(self) -> anyhow::Result<Settings> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let templates = match given(self.templates_file) {
            Some(path) => Templates::read(Path::new(&path)).context("--templates-file")?,
            None => Templates::default(),
        };
        let (memory, cpu) = (self.default_memory, self.default_cpu);
        if let Some(most) = self.max_memory {
            ensure!(
                memory <= most,
                "--default-memory {memory} exceeds --max-memory {most}"
            );
        }
        if let Some(most) = self.max_cpu {
            ensure!(cpu <= most, "--default-cpu {cpu} exceeds --max-cpu {most}");
        }
        let mut secrets = self.image_pull_secrets;
        secrets.retain(|name| !name.is_empty());
        Ok(Settings {
            aligner_image: self.aligner_image,
            aligner_image_pull_policy: given(self.aligner_image_pull_policy),
            image_pull_secrets: secrets,
            aligner_service_account: given(self.aligner_service_account),
            static_data_claim: self.static_data_claim,
            templates,
            default_memory: memory,
            default_cpu: cpu,
            max_memory: self.max_memory,
            max_cpu: self.max_cpu,
            origins: self.allow_origin,
            private_origins: self.allow_private_origin,
            authorities: given(self.authorities_config_map).map(|config_map| Authorities {
                config_map,
                key: self.authorities_key,
            }),
            scratch_limit: self.scratch_limit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> RunArguments {
        let command = ["operator", "run"].iter().chain(arguments);
        match Cli::parse_from(command).command {
            Command::Run(arguments) => *arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_operators_own_namespace_is_watched_unless_others_are_named() {
        let own = ["--pod-namespace", "me"];
        assert_eq!(run(&own).watched(), ["me"]);
        let named = ["--namespace", "a,b", "--namespace", "c"];
        assert_eq!(run(&named).watched(), ["a", "b", "c"]);
        assert_eq!(run(&["--all-namespaces"]).watched(), Vec::<String>::new());
    }

    #[test]
    fn a_default_above_its_limit_is_refused() {
        let arguments = run(&["--default-memory", "8Gi", "--max-memory", "4Gi"]);
        let error = arguments.installation.settings().unwrap_err();
        assert!(error.to_string().contains("--default-memory 8Gi exceeds"));
    }

    #[test]
    fn an_origin_is_checked_when_the_operator_starts() {
        let arguments = [
            "operator",
            "run",
            "--allow-origin",
            "https://a.example/path",
        ];
        let error = Cli::try_parse_from(arguments).unwrap_err().to_string();
        assert!(error.contains("has a path"), "{error}");
        let settings = run(&["--allow-private-origin", "http://images.voluba.svc:8080"])
            .installation
            .settings()
            .unwrap();
        assert_eq!(
            settings.private_origins[0].to_string(),
            "http://images.voluba.svc:8080"
        );
    }

    #[test]
    fn empty_values_of_a_chart_mean_nothing_given() {
        let arguments = run(&[
            "--image-pull-secret",
            "",
            "--aligner-image-pull-policy",
            "",
            "--templates-file",
            "",
            "--namespace",
            "",
        ]);
        assert_eq!(arguments.watched(), ["default"]);
        let settings = arguments.installation.settings().unwrap();
        assert_eq!(settings.aligner_image_pull_policy, None);
        assert!(settings.image_pull_secrets.is_empty());
    }
}
