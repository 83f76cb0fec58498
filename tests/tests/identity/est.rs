//! EST (RFC 7030) by the standard clients: curl and openssl enrol and renew, and a real minion connects with what they
//! got. Who has no certificate, a revoked one or another fleet's gets none.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use drover_tests::{
    fleet::{Fleet, Outcome, PATIENCE, run},
    parts::free_port,
    process::program,
    wait,
};

/// A fleet whose master serves EST, with `rfid-1` enrolled and registered, and a directory for what a client has.
struct Est {
    fleet: Fleet,
    url: String,
}

/// What curl was answered.
#[derive(Debug)]
struct Answer {
    /// curl's exit status.
    exit: i32,
    /// The HTTP status; 0 where there was no answer.
    status: u32,
    headers: String,
    body: PathBuf,
}

impl Answer {
    fn text(&self) -> String {
        fs::read_to_string(&self.body).unwrap_or_default()
    }
}

impl Est {
    fn new(more: &str) -> Self {
        let mut fleet = Fleet::new();
        let listen = format!("127.0.0.1:{}", free_port());
        fleet.configure_master(&format!("est_listen: {listen}\n{more}"));
        fleet.enrol("rfid-1", &[]);
        fleet.start_master();
        fleet.register();
        let est = Self { url: format!("https://{listen}"), fleet };
        fs::create_dir(est.path("")).unwrap();
        // Its certificate is made as it starts.
        wait::until("EST answers", PATIENCE, || {
            est.get("/.well-known/est/cacerts", None).status == 200
        });
        est
    }

    fn path(&self, name: &str) -> PathBuf {
        self.fleet.path("client").join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A file of the fleet's.
    fn of_fleet(&self, name: &str) -> String {
        self.fleet.path(name).to_str().unwrap().to_owned()
    }

    /// The birth certificate and its key.
    fn birth(&self) -> [String; 2] {
        ["crt", "key"].map(|kind| self.of_fleet(&format!("minions/rfid-1/pki/idevid.{kind}")))
    }

    fn openssl(&self, arguments: &[&str]) -> String {
        self.openssl_says(arguments).ok().stdout
    }

    fn openssl_says(&self, arguments: &[&str]) -> Outcome {
        run(Path::new("openssl"), arguments)
    }

    fn curl(&self, path: &str, identity: Option<&[String; 2]>, more: &[&str]) -> Answer {
        let (root, body, headers) =
            (self.of_fleet("factory/root/root.crt"), self.text("answer"), self.text("headers"));
        let _ = fs::remove_file(&body);
        let url = format!("{}{path}", self.url);
        let mut arguments = vec!["--silent", "--show-error", "--tlsv1.3", "--max-time", "20"];
        arguments.extend(["--cacert", &root, "--output", &body, "--dump-header", &headers]);
        arguments.extend(["--write-out", "%{http_code}"]);
        if let Some([certificate, key]) = identity {
            arguments.extend(["--cert", certificate, "--key", key]);
        }
        arguments.extend(more);
        arguments.push(&url);
        let outcome = run(Path::new("curl"), &arguments);
        Answer {
            exit: outcome.status,
            status: outcome.stdout.parse().unwrap_or(0),
            headers: fs::read_to_string(&headers).unwrap_or_default().to_lowercase(),
            body: body.into(),
        }
    }

    fn get(&self, path: &str, identity: Option<&[String; 2]>) -> Answer {
        self.curl(path, identity, &[])
    }

    /// Posts a file as a PKCS#10 request.
    fn post(&self, operation: &str, identity: Option<&[String; 2]>, file: &str) -> Answer {
        let data = format!("@{}", self.text(file));
        let more = ["--header", "Content-Type: application/pkcs10", "--data-binary", &data];
        self.curl(&format!("/.well-known/est/{operation}"), identity, &more)
    }

    /// A new key, and a request for it that asks to be somebody else.
    fn request(&self, name: &str) {
        let [key, der, request] =
            ["key", "der", "request"].map(|kind| self.text(&format!("{name}.{kind}")));
        let curve = "ec_paramgen_curve:P-256";
        let _ = self.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out", &key]);
        let san = "subjectAltName=URI:urn:drover:master:evil";
        let request_of = ["req", "-new", "-key", &key, "-subj", "/CN=evil", "-addext", san];
        let _ = self.openssl(&[&request_of[..], &["-outform", "DER", "-out", &der]].concat());
        let _ = self.openssl(&["base64", "-in", &der, "-out", &request]);
    }

    /// The certificates in an answer, in PEM.
    fn certificates(&self, answer: &Answer) -> String {
        let (body, der) = (answer.body.to_str().unwrap(), self.text("answer.p7"));
        let _ = self.openssl(&["base64", "-d", "-in", body, "-out", &der]);
        self.openssl(&["pkcs7", "-inform", "DER", "-in", &der, "-print_certs"])
    }

    /// Enrols, and gives the certificate and its key.
    fn enrolled(&self, operation: &str, identity: &[String; 2], name: &str) -> [String; 2] {
        self.request(name);
        let answer = self.post(operation, Some(identity), &format!("{name}.request"));
        assert_eq!(answer.status, 200, "{answer:?} {}\n{}", answer.text(), self.fleet.logs());
        assert!(
            answer.headers.contains("content-type: application/pkcs7-mime; smime-type=certs-only")
        );
        assert!(answer.headers.contains("content-transfer-encoding: base64"), "{}", answer.headers);
        fs::write(self.path(&format!("{name}.crt")), self.certificates(&answer)).unwrap();
        [self.text(&format!("{name}.crt")), self.text(&format!("{name}.key"))]
    }
}

#[test]
fn a_device_enrols_and_renews_with_curl_and_connects_with_what_it_got() {
    let mut est = Est::new("");
    // Anyone may ask for the authorities.
    let answer = est.get("/.well-known/est/cacerts", None);
    let authorities = est.certificates(&answer);
    assert!(
        authorities.contains("OU = Fleet CA") && authorities.contains("CN = Drover root CA"),
        "{authorities}"
    );
    fs::write(est.path("cas.pem"), &authorities).unwrap();
    let answer = est.get("/.well-known/est/csrattrs", None);
    assert!(answer.headers.contains("content-type: application/csrattrs"), "{answer:?}");
    let der = est.text("csrattrs.der");
    let _ = est.openssl(&["base64", "-d", "-in", answer.body.to_str().unwrap(), "-out", &der]);
    let attributes = est.openssl(&["asn1parse", "-inform", "DER", "-in", &der]);
    for part in ["id-ecPublicKey", "prime256v1", "ecdsa-with-SHA256"] {
        assert!(attributes.contains(part), "{part} is not in\n{attributes}");
    }

    let first = est.enrolled("simpleenroll", &est.birth(), "first");
    // The request's names count for nothing, and its key for everything.
    let text = est.openssl(&["x509", "-noout", "-text", "-in", &first[0]]);
    assert!(text.contains("URI:urn:drover:minion:rfid-1\n") && !text.contains("evil"), "{text}");
    assert!(text.contains("Subject: CN = rfid-1, serialNumber = SN-rfid-1"), "{text}");
    let certified = est.openssl(&["x509", "-noout", "-pubkey", "-in", &first[0]]);
    assert_eq!(certified, est.openssl(&["pkey", "-pubout", "-in", &first[1]]));
    let (root, authorities) = (est.of_fleet("factory/root/root.crt"), est.text("cas.pem"));
    let verify = ["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", &root];
    let _ = est.openssl(&[&verify[..], &["-untrusted", &authorities, &first[0]]].concat());

    let second = est.enrolled("simplereenroll", &first, "second");
    let events = est.fleet.wait_events("drover/key/rfid-1/renewed", 2);
    assert!(events.iter().all(|event| event["data"]["by"] == "est"), "{events:#?}");

    // What EST gave is an operational certificate like any other.
    let chain =
        fs::read_to_string(&second[0]).unwrap() + &fs::read_to_string(&authorities).unwrap();
    est.fleet.write("minions/rfid-1/pki/ldevid.crt", &chain);
    fs::copy(&second[1], est.fleet.path("minions/rfid-1/pki/ldevid.key")).unwrap();
    est.fleet.start_minion("rfid-1");
    est.fleet.wait_connected(&["rfid-1"]);
    let pong = est.fleet.json(&["rfid-1", "test.ping"]);
    assert_eq!(pong, serde_json::json!({"rfid-1": true}));
    assert_eq!(
        est.fleet.events("drover/key/rfid-1/renewed").len(),
        2,
        "the birth certificate was not used"
    );
}

#[test]
fn a_revoked_device_gets_nothing_and_is_in_the_list_that_anyone_may_fetch() {
    let est = Est::new("");
    let first = est.enrolled("simpleenroll", &est.birth(), "first");
    let serial = est.openssl(&["x509", "-noout", "-serial", "-in", &first[0]]);
    let (root, list) = (est.of_fleet("factory/root/root.crt"), est.text("crl.pem"));
    let fleet_ca = est.of_fleet("master/pki/fleet-ca.crt");
    let check =
        ["verify", "-crl_check", "-CRLfile", &list, "-CAfile", &root, "-untrusted", &fleet_ca];
    let verify = || {
        let answer = est.get("/crl.pem", None);
        assert_eq!(answer.status, 200, "{answer:?}");
        fs::copy(&answer.body, est.path("crl.pem")).unwrap();
        let _ = est.openssl(&["crl", "-noout", "-in", &list, "-CAfile", &fleet_ca]);
        est.openssl_says(&[&check[..], &[&first[0]]].concat())
    };
    let _ = verify().ok();

    let _ = est.fleet.drover(&["key", "revoke", "rfid-1", "-y", "--reason", "key compromise"]).ok();
    est.request("second");
    for (operation, identity) in [("simpleenroll", est.birth()), ("simplereenroll", first.clone())]
    {
        let answer = est.post(operation, Some(&identity), "second.request");
        assert_eq!(answer.status, 403, "{answer:?}");
        assert!(answer.text().contains("revoked"), "{}", answer.text());
    }
    // openssl, which knows nothing but the list, refuses the certificate too.
    let outcome = verify();
    assert!(outcome.status != 0 && outcome.stderr.contains("certificate revoked"), "{outcome:?}");
    let printed = est.openssl(&["crl", "-noout", "-text", "-in", &list]);
    let serial = serial.trim().trim_start_matches("serial=");
    assert!(printed.contains(serial) && printed.contains("Key Compromise"), "{printed}");
    // The file, the command and the server have one list.
    let shown = est.fleet.drover(&["key", "crl"]).ok().stdout;
    assert_eq!(shown, fs::read_to_string(est.path("crl.pem")).unwrap());
    assert_eq!(shown, fs::read_to_string(est.fleet.path("master/pki/crl.pem")).unwrap());
}

#[test]
fn a_device_that_is_enrolled_anew_while_it_asks_gets_nothing() {
    let est = Est::new("");
    est.request("late");
    let (root, [certificate, key]) = (est.of_fleet("factory/root/root.crt"), est.birth());
    let mut curl = Command::new("curl")
        .args(["--verbose", "--silent", "--tlsv1.3", "--max-time", "50", "--cacert", &root])
        .args(["--cert", &certificate, "--key", &key, "--expect100-timeout", "50"])
        .args(["--request", "POST", "--upload-file", "-", "--header", "Expect: 100-continue"])
        .args(["--header", "Content-Type: application/pkcs10"])
        .arg(format!("{}/.well-known/est/simpleenroll", est.url))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The master has let the device in, and waits for its request.
    let mut said = BufReader::new(curl.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("100 Continue")));
    let (station, address) = (est.of_fleet("stations/line-1"), est.fleet.master_address());
    let (out, tool) = (est.of_fleet("minions/new"), program("drover-enrol"));
    let issue = ["issue", "--station", &station, "--id", "rfid-1", "--reissue", "--out", &out];
    let device = ["--serial", "SN-rfid-1", "--reason", "lost", "--master", &address];
    let _ = run(&tool, &[&issue[..], &device].concat()).ok();
    est.fleet.register();

    let request = fs::read(est.path("late.request")).unwrap();
    curl.stdin.take().unwrap().write_all(&request).unwrap();
    let rest = thread::spawn(move || said.for_each(drop));
    let answer = String::from_utf8(curl.wait_with_output().unwrap().stdout).unwrap();
    rest.join().unwrap();
    assert!(answer.contains("not that of `rfid-1` any more"), "{answer}");
    assert!(est.fleet.events("drover/key/rfid-1/renewed").is_empty());
}

#[test]
fn without_a_certificate_of_this_fleets_devices_there_is_none_to_be_had() {
    let est = Est::new("");
    est.request("a");
    for operation in ["simpleenroll", "simplereenroll"] {
        let answer = est.post(operation, None, "a.request");
        assert_eq!(answer.status, 401, "{answer:?}");
        assert!(answer.headers.contains("www-authenticate: "), "{}", answer.headers);
        assert!(answer.text().contains("--cert"), "{}", answer.text());
    }
    // Another fleet's device, and an operator of this one, get no further than the handshake.
    let other = Fleet::new();
    other.enrol("rfid-1", &[]);
    let identity = |fleet: &Fleet, name: &str| {
        ["crt", "key"]
            .map(|kind| fleet.path(&format!("{name}.{kind}")).to_str().unwrap().to_owned())
    };
    let operator = ["operator", "--fleet", &est.of_fleet("factory"), "--name", "ann", "--out"];
    let out = est.of_fleet("ann");
    let tool = program("drover-enrol");
    let _ = run(&tool, &[&operator[..], &[&out]].concat()).ok();
    let strangers =
        [identity(&other, "minions/rfid-1/pki/idevid"), identity(&est.fleet, "ann/operator")];
    for stranger in strangers {
        let answer = est.post("simpleenroll", Some(&stranger), "a.request");
        assert!(answer.exit != 0 && answer.status == 0, "{answer:?}");
    }
    // Nobody is told anything in an older TLS.
    assert_eq!(est.curl("/crl.pem", None, &["--tls-max", "1.2"]).status, 0);
    // A device that no manifest names waits, as on the minions' port.
    est.fleet.enrol("rfid-2", &[]);
    let unknown = identity(&est.fleet, "minions/rfid-2/pki/idevid");
    let answer = est.post("simpleenroll", Some(&unknown), "a.request");
    assert!(
        answer.status == 403 && answer.text().contains("drover key accept"),
        "{}",
        answer.text()
    );
    assert_eq!(est.fleet.wait_events("drover/key/rfid-2/pending", 1).len(), 1);
}

#[test]
fn rubbish_is_refused_with_what_to_do_and_the_master_goes_on() {
    let mut est = Est::new("est_connections: 4\n");
    let birth = est.birth();
    for (name, content, status) in [
        ("empty", Vec::new(), 400),
        ("words", b"hello, world!".to_vec(), 400),
        ("zeroes", b"AAAA".to_vec(), 400),
        ("der", vec![0x30; 2_000], 400),
        ("long", vec![b'M'; 1 << 20], 413),
    ] {
        fs::write(est.path(name), content).unwrap();
        let answer = est.post("simpleenroll", Some(&birth), name);
        assert_eq!(answer.status, status, "{name}: {answer:?} {}", answer.text());
        assert!(answer.headers.contains("content-type: text/plain"), "{name}: {answer:?}");
        assert!(answer.text().ends_with(".\n"), "{name}: {}", answer.text());
    }
    // A key of another kind, and a request that another key signed.
    let (key, request) = (est.text("rsa.key"), est.text("rsa.pem"));
    let _ = est.openssl(&["genpkey", "-algorithm", "RSA", "-out", &key]);
    let _ = est.openssl(&["req", "-new", "-key", &key, "-subj", "/CN=a", "-out", &request]);
    let answer = est.post("simpleenroll", Some(&birth), "rsa.pem");
    assert!(answer.status == 400 && answer.text().contains("P-256"), "{}", answer.text());
    est.request("a");
    let mut der = fs::read(est.path("a.der")).unwrap();
    *der.last_mut().unwrap() ^= 1;
    fs::write(est.path("a.der"), der).unwrap();
    assert_eq!(est.post("simpleenroll", Some(&birth), "a.der").status, 400);
    // Not a request at all.
    let url = "/.well-known/est/simpleenroll";
    assert_eq!(est.curl(url, Some(&birth), &["--data", "a=b"]).status, 415);
    assert_eq!(est.get(url, Some(&birth)).status, 405);
    assert_eq!(est.get("/.well-known/est/serverkeygen", Some(&birth)).status, 404);
    assert_eq!(est.get("/crl-0123456789abcdef.pem", None).status, 404);
    let header = format!("X-Long: {}", "a".repeat(100_000));
    let answer = est.curl("/crl.pem", None, &["--header", &header]);
    assert!(answer.status == 431 || answer.exit != 0, "{answer:?}");

    // Who opens connections and says nothing takes places, and gives them back.
    let address = est.url.trim_start_matches("https://").to_owned();
    let silent: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(&address).unwrap()).collect();
    wait::until("there is no place left", Duration::from_secs(5), || {
        est.get("/crl.pem", None).exit != 0
    });
    drop(silent);
    wait::until("there are places again", Duration::from_secs(5), || {
        est.get("/crl.pem", None).status == 200
    });
    assert!(est.fleet.master().runs());
}
