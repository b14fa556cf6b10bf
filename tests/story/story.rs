//! Runs the scenario of `story.txt` in Rust and prints its trace: `story URL`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use discover_core::{Attributes, Client, Event, Instance, Lease, Registration};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        [url] => tell(url).await,
        [url, "member", service, address] => be_member(url, service, address).await,
        _ => Err("usage: story URL".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("story: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Teller {
    client: Option<Client>,
    events: Option<BoxStream<'static, Event>>,
    lease: Option<Lease>,
    member: Option<Child>,
}

async fn tell(url: &str) -> Result {
    let path = std::env::var("STORY").unwrap_or("tests/story/story.txt".to_owned());
    let mut teller = Teller::default();
    for line in std::fs::read_to_string(path)?.lines().map(str::trim) {
        let step = match line.strip_prefix("+ ") {
            Some(_) if url.starts_with("memory:") => continue,
            Some(step) => step,
            None if line.is_empty() || line.starts_with('#') => continue,
            None => line,
        };
        let words: Vec<&str> = step.split_whitespace().collect();
        teller
            .step(url, &words)
            .await
            .map_err(|error| format!("{step}: {error}"))?;
        std::io::stdout().flush()?;
    }
    Ok(())
}

impl Teller {
    async fn step(&mut self, url: &str, words: &[&str]) -> Result {
        match words {
            ["open"] => self.client = Some(Client::connect(url).await?),
            ["watch", service] => self.events = Some(self.client()?.services(service)?.subscribe()),
            ["register", service, address, attributes @ ..] => {
                let registration = Registration::at(service, address)?;
                let registration = registration.attributes(parse(attributes)?)?;
                self.lease = Some(self.client()?.register(registration).await?);
            }
            ["update", attributes @ ..] => self.lease()?.update(parse(attributes)?).await?,
            ["unregister"] => self.lease()?.unregister().await?,
            ["spawn", service, address] => self.member = Some(spawn(url, service, address)?),
            ["kill"] => self.member.take().ok_or("no member to kill")?.kill()?,
            ["close"] => self.client()?.close(WAIT_TIMEOUT).await?,
            ["hear", ..] => {
                let event = tokio::time::timeout(WAIT_TIMEOUT, self.events()?.next()).await;
                let event = event
                    .map_err(|_| "nothing heard")?
                    .ok_or("the watch ended")?;
                println!("{}", text(&event));
            }
            ["silence"] => {
                let rest: Vec<Event> = self.events()?.collect().await;
                rest.iter().for_each(|event| println!("{}", text(event)));
                if rest.is_empty() {
                    println!("silence");
                }
            }
            _ => return Err("no such step".into()),
        }
        Ok(())
    }

    fn client(&self) -> Result<&Client> {
        Ok(self.client.as_ref().ok_or("not open")?)
    }

    fn lease(&self) -> Result<&Lease> {
        Ok(self.lease.as_ref().ok_or("not registered")?)
    }

    fn events(&mut self) -> Result<&mut BoxStream<'static, Event>> {
        Ok(self.events.as_mut().ok_or("not watching")?)
    }
}

fn parse(words: &[&str]) -> Result<Attributes> {
    let mut attributes = Attributes::new();
    for word in words {
        let (name, value) = word.split_once('=').ok_or("an attribute is name=value")?;
        attributes.insert(name.to_owned(), value.to_owned());
    }
    Ok(attributes)
}

fn text(event: &Event) -> String {
    let described = |instance: &Instance| {
        let attributes = instance
            .attributes()
            .iter()
            .map(|(name, value)| format!(" {name}={value}"));
        format!("{}{}", instance.address(), attributes.collect::<String>())
    };
    match (event, event.instance()) {
        (Event::Leader(None), _) => "leader -".to_owned(),
        (_, Some(instance)) => format!("{} {}", event.kind(), described(instance)),
        _ => event.kind().to_owned(),
    }
}

fn spawn(url: &str, service: &str, address: &str) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command
        .args([url, "member", service, address])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    if line.trim() == "ready" {
        Ok(child)
    } else {
        Err("the member is not ready".into())
    }
}

async fn be_member(url: &str, service: &str, address: &str) -> Result {
    let client = Client::connect(url).await?;
    let _lease = client.register(Registration::at(service, address)?).await?;
    println!("ready");
    std::future::pending().await
}
