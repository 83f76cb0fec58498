//! nginx before a server: TLS, client certificates and passwords for servers that have none here, and the answers of a
//! proxy that are not the server's: 413, 502 with HTML, 401.

use std::{fs, path::PathBuf};

use rustix::process::Signal;

use super::{certificates::Certificate, free_port, text, wait_listening};
use crate::process::Daemon;

/// How it stands before the server.
#[derive(Debug, Clone, Default)]
pub struct Front {
    /// Speaks TLS with this certificate.
    pub tls: Option<Certificate>,
    /// Wants clients' certificates from the authority in this file.
    pub client_ca: Option<PathBuf>,
    /// Wants this value of the header `Authorization`, e.g. `Basic …`, `ApiKey …`.
    pub authorization: Option<String>,
    /// The longest request, as nginx writes sizes.
    pub longest_body: Option<String>,
}

impl Front {
    /// Wants this user and password.
    #[must_use]
    pub fn with_password(self, user: &str, password: &str) -> Self {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let credentials = STANDARD.encode(format!("{user}:{password}"));
        Self { authorization: Some(format!("Basic {credentials}")), ..self }
    }
}

/// A running nginx: one process, without workers, so its id is all there is to stop.
#[derive(Debug)]
pub struct Nginx {
    dir: PathBuf,
    port: u16,
    upstream: u16,
    front: Front,
    daemon: Option<Daemon>,
}

impl Nginx {
    /// Starts it on a free port before a port of loopback, with its files in `dir`.
    #[must_use]
    pub fn start(dir: PathBuf, upstream: u16, front: Front) -> Self {
        let mut nginx = Self { dir, port: free_port(), upstream, front, daemon: None };
        nginx.start_again();
        nginx
    }

    /// Starts it after [`Nginx::stop`], on the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        fs::create_dir_all(&self.dir).expect("the test's directory is writable");
        fs::write(self.dir.join("nginx.conf"), self.configuration()).expect("it is writable");
        let prefix = format!("{}/", text(&self.dir));
        let config = self.dir.join("nginx.conf");
        let errors = self.dir.join("error.log");
        let arguments = ["-p", &prefix, "-c", text(&config), "-e", text(&errors)];
        let nginx = PathBuf::from("/usr/sbin/nginx");
        let mut daemon = Daemon::start(&nginx, arguments, self.dir.join("nginx.log"));
        wait_listening("nginx", self.port, &mut daemon);
        self.daemon = Some(daemon);
    }

    /// Stands before the server in another way from now on, on the same port.
    pub fn change(&mut self, front: Front) {
        self.stop();
        self.front = front;
        self.start_again();
    }

    /// Stops it: its port refuses connections.
    pub fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop();
        }
    }

    /// It accepts connections and answers nothing: SIGSTOP.
    pub fn suspend(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        self.daemon.as_ref().expect("nginx runs").signal(signal);
    }

    /// As `hosts` of a bridge takes it.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.front.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    fn configuration(&self) -> String {
        let mut server = String::new();
        match &self.front.tls {
            None => server.push_str(&format!("listen 127.0.0.1:{};\n", self.port)),
            Some(tls) => server.push_str(&format!(
                "listen 127.0.0.1:{} ssl;\nssl_certificate {};\nssl_certificate_key {};\n",
                self.port,
                text(&tls.cert),
                text(&tls.key)
            )),
        }
        if let Some(ca) = &self.front.client_ca {
            let ca = text(ca);
            server.push_str(&format!("ssl_client_certificate {ca};\nssl_verify_client on;\n"));
        }
        let longest = self.front.longest_body.as_deref().unwrap_or("100m");
        server.push_str(&format!("client_max_body_size {longest};\n"));
        if let Some(wanted) = &self.front.authorization {
            server.push_str(&format!("if ($http_authorization != '{wanted}') {{ return 401; }}\n"));
        }
        format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nevents {{}}\n\
             http {{\naccess_log off;\nclient_body_temp_path body;\nproxy_temp_path proxy;\n\
             fastcgi_temp_path fastcgi;\nuwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
             server {{\n{server}location / {{\nproxy_pass http://127.0.0.1:{};\n\
             proxy_http_version 1.1;\nproxy_set_header Connection '';\n\
             proxy_set_header Authorization '';\n}}\n}}\n}}\n",
            self.upstream
        )
    }
}
