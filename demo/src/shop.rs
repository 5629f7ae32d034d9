//! The shop on the stage: a pod for each program, a bank outside, and how each is started.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use weft_lab::{Machine, Pod, Proc, Workload, bin, eventually};

use crate::{checkout::Checkout, door::Door, limits, stage::Stage};

const POSTGRES: &str = "/usr/lib/postgresql/15/bin";
const BANK: &str = "203.0.113.10";
const PYTHON: &str = "/usr/bin/python3";

pub struct Shop {
    checkout: Checkout,
    pub storefront: Pod,
    pub orders: [Pod; 2],
    pub stock: Pod,
    pub media: [Pod; 2],
    pub database: Pod,
    pub bank: Machine,
    ca: PathBuf,
    running: Vec<Proc>,
}

impl Shop {
    /// Storefront and the database on node a, stock on node b; one of orders and one of media on each.
    pub fn lay(stage: &mut Stage, checkout: &Checkout) -> Result<Self> {
        let address: IpAddr = BANK.parse()?;
        let bank = stage.lab.machine("bank", &[address])?;
        let (a, b) = (&stage.a, &stage.b);
        let shop = Self {
            checkout: checkout.clone(),
            storefront: a.pod("storefront")?,
            orders: [a.pod("orders")?, b.pod("orders")?],
            stock: b.pod("stock")?,
            media: [a.pod("media")?, b.pod("media")?],
            database: a.pod("orders-db")?,
            ca: bank.place().dir().join("bank.pem"),
            bank,
            running: Vec::new(),
        };
        shop.prepare_bank()?;
        shop.prepare_media()?;
        shop.prepare_database()?;
        Ok(shop)
    }

    pub fn workloads(&self, node: &str) -> Vec<Workload> {
        self.pods().iter().filter(|(_, pod)| pod.node().name() == node).map(|(service, pod)| Workload::of(service, pod)).collect()
    }

    pub fn pods(&self) -> [(&'static str, &Pod); 7] {
        [
            ("shop/storefront", &self.storefront),
            ("shop/orders", &self.orders[0]),
            ("shop/orders", &self.orders[1]),
            ("shop/stock", &self.stock),
            ("shop/media", &self.media[0]),
            ("shop/media", &self.media[1]),
            ("shop/orders-db", &self.database),
        ]
    }

    /// For the time before there is a mesh: the names lead to the pods themselves.
    pub fn write_plain_hosts(&self) -> Result<()> {
        let lines = self.pods().map(|(service, pod)| format!("{} {}.shop.weft.internal\n", pod.v4(), service.trim_start_matches("shop/")));
        for node in [self.storefront.node(), self.stock.node()] {
            fs::write(node.hosts(), format!("127.0.0.1 localhost\n{}", lines.concat()))?;
        }
        Ok(())
    }

    pub fn start(&mut self, door: &Door) -> Result<()> {
        self.start_bank(door)?;
        self.start_database()?;
        let stock = bin("shop-stock")?.display().to_string();
        let mut running = vec![self.stock.place().spawn("stock", &[stock])?];
        for media in &self.media {
            let dir = media.dir().display().to_string();
            running.push(media.place().spawn("nginx", &["/usr/sbin/nginx", "-p", &dir, "-c", "nginx.conf", "-e", "stderr"])?);
        }
        let script = self.checkout.shop("orders/orders.py").display().to_string();
        for pod in &self.orders {
            let name = format!("orders on node {}", pod.node().name());
            let argv = [PYTHON, "-u", &script, "--name", &name, "--payments-ca", &self.ca.display().to_string()];
            running.push(pod.place().spawn("orders", &argv)?);
        }
        running.push(self.storefront.place().spawn("storefront", &[bin("shop-storefront")?.display().to_string()])?);
        for process in &mut running {
            // nginx says nothing when it is up; the others do.
            if !process.log_path().ends_with("nginx.log") {
                process.wait_for_log("listening on", limits::PROGRAM_DEADLINE)?;
            }
        }
        self.running.append(&mut running);
        self.media.iter().try_for_each(|m| self.wait_listening(m, 8081))
    }

    /// Ends every program of the shop; the pods stay.
    pub fn stop(&mut self) -> Result<()> {
        for mut process in self.running.drain(..).rev() {
            process.stop();
        }
        for (_, pod) in self.pods().into_iter().filter(|(_, pod)| pod.place().cgroup().exists()) {
            pod.place().kill_all()?;
        }
        Ok(())
    }

    pub fn still_running(&mut self) -> Result<()> {
        Ok(self.running.iter_mut().try_for_each(Proc::still_running)?)
    }

    /// A purchase, as the storefront's own till makes it.
    pub fn buy(&self, customer: &str, deadline: Duration) -> Result<Output> {
        Ok(self.storefront.place().output(&self.purchase(customer)?, deadline)?)
    }

    /// The same, not waited for.
    pub fn start_buying(&self, customer: &str) -> Result<Proc> {
        Ok(self.storefront.place().spawn(&format!("buy-{customer}"), &self.purchase(customer)?)?)
    }

    fn purchase(&self, customer: &str) -> Result<Vec<String>> {
        Ok(vec![bin("shop-buy")?.display().to_string(), "mug".to_owned(), "1".to_owned(), customer.to_owned()])
    }

    /// Asked over the database's own unix socket: no network is in it.
    pub fn sql(&self, query: &str) -> Result<String> {
        let host = self.database.dir().display().to_string();
        let argv = ["psql", "-h", &host, "-U", "postgres", "-d", "shop", "-At", "-c", query];
        Ok(self.storefront.node().place().check(&argv, limits::ACT_DEADLINE)?.trim().to_owned())
    }

    /// It tells the shop of settled payments, at the public address, when there is one.
    fn start_bank(&mut self, door: &Door) -> Result<()> {
        let dir = self.bank.place().dir();
        let (script, key) = (self.checkout.shop("payments/payments.py").display().to_string(), dir.join("bank.key").display().to_string());
        let callback = format!("https://hooks.localhost:{}/payments/settled", door.address().port());
        let (ca, authority, gateway) = (self.ca.display().to_string(), Door::ca().display().to_string(), door.address().ip().to_string());
        let listen = format!("{BANK}:443");
        let mut argv = vec![PYTHON, "-u", &script, "--listen", &listen, "--certificate", &ca, "--key", &key];
        argv.extend(["--callback", &callback, "--callback-ca", &authority, "--callback-address", &gateway]);
        let mut bank = self.bank.place().spawn("payments", &argv)?;
        bank.wait_for_log("listening on", limits::PROGRAM_DEADLINE)?;
        self.running.push(bank);
        Ok(())
    }

    /// As user postgres; in an IPC namespace of its own, so that no shared memory outlives it.
    fn start_database(&mut self) -> Result<()> {
        let (data, sockets) = (self.database.dir().join("data").display().to_string(), self.database.dir().display().to_string());
        let program = format!("{POSTGRES}/postgres");
        let settings = [
            "listen_addresses=*".to_owned(),
            format!("unix_socket_directories={sockets}"),
            "dynamic_shared_memory_type=mmap".to_owned(),
            "max_connections=60".to_owned(),
        ];
        let mut argv = vec!["unshare", "--ipc", "setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", &program, "-D", &data];
        for setting in &settings {
            argv.extend(["-c", setting]);
        }
        let mut database = self.database.place().spawn("postgres", &argv)?;
        let ready = eventually(limits::PROGRAM_DEADLINE, "the database", || {
            database.still_running().map_err(anyhow::Error::from)?;
            self.sql_in("postgres", "SELECT 1").map(drop)
        });
        ready.with_context(|| database.log_tail(10))?;
        self.running.push(database);
        if self.sql_in("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'shop'")? == "0" {
            self.sql_in("postgres", "CREATE DATABASE shop")?;
            let schema = fs::read_to_string(self.checkout.shop("db/schema.sql"))?;
            self.sql(&schema)?;
        }
        Ok(())
    }

    fn sql_in(&self, database: &str, query: &str) -> Result<String> {
        let host = self.database.dir().display().to_string();
        let argv = ["psql", "-h", &host, "-U", "postgres", "-d", database, "-At", "-c", query];
        Ok(self.database.node().place().check(&argv, limits::ACT_DEADLINE)?.trim().to_owned())
    }

    fn prepare_bank(&self) -> Result<()> {
        let certified = rcgen::generate_simple_self_signed(vec![BANK.to_owned(), "bank.example".to_owned()])?;
        fs::write(&self.ca, certified.cert.pem())?;
        let key = self.ca.with_extension("key");
        fs::write(&key, certified.signing_key.serialize_pem()).with_context(|| format!("cannot write {}", key.display()))
    }

    fn prepare_media(&self) -> Result<()> {
        for dir in self.media.each_ref().map(|m| m.dir()) {
            fs::create_dir_all(dir.join("tmp"))?;
            fs::create_dir_all(dir.join("html"))?;
            fs::copy(self.checkout.shop("media/nginx.conf"), dir.join("nginx.conf"))?;
            for picture in fs::read_dir(self.checkout.shop("media/html"))? {
                let picture = picture?;
                fs::copy(picture.path(), dir.join("html").join(picture.file_name()))?;
            }
        }
        Ok(())
    }

    fn prepare_database(&self) -> Result<()> {
        let dir = self.database.dir();
        let node = self.database.node().place();
        // Its socket lies in the pod's directory, so that is its own too.
        node.check(&["chown", "postgres:postgres", &dir.display().to_string()], limits::ACT_DEADLINE)?;
        let data = dir.join("data");
        let initdb = format!("{POSTGRES}/initdb");
        let argv = [
            "setpriv",
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            &initdb,
            "-D",
            &data.display().to_string(),
            "-A",
            "trust",
            "-N",
            "--locale=C.UTF-8",
        ];
        node.check(&argv, limits::PROGRAM_DEADLINE).context("PostgreSQL could not make its data directory")?;
        // Written, not copied: the file keeps its owner.
        fs::write(data.join("pg_hba.conf"), fs::read(self.checkout.shop("db/pg_hba.conf"))?)?;
        Ok(())
    }

    fn wait_listening(&self, pod: &Pod, port: u16) -> Result<()> {
        let wanted = format!(":{port:04X} ");
        eventually(limits::PROGRAM_DEADLINE, &format!("a listener on port {port} of {}", pod.place().name()), || {
            let sockets = pod.place().check(&["cat", "/proc/net/tcp"], limits::ACT_DEADLINE).map_err(anyhow::Error::from)?;
            if sockets.contains(&wanted) { Ok(()) } else { bail!("nothing listens there") }
        })?;
        Ok(())
    }
}

/// Where the owners' documents are.
pub fn catalog(checkout: &Checkout) -> PathBuf {
    checkout.shop("catalog")
}

/// A copy that the tour may change.
pub fn copy_catalog(checkout: &Checkout, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for file in fs::read_dir(catalog(checkout))? {
        let file = file?;
        fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}
