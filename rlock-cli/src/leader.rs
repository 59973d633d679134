//! `rlock leader`: the leader of an election, once or as it changes.

use futures_util::StreamExt as _;
use rlock::{Election, Leader, Observation};
use serde::Serialize;

use crate::args::LeaderArgs;
use crate::ask::ask;
use crate::exit::Exit;
use crate::output::print;
use crate::run::error::shown;
use crate::run::held::millis;
use crate::show::json::Who;
use crate::show::since;

pub(crate) async fn leader(args: LeaderArgs) -> Exit {
    let outcome = ask(&args.store, async |client| {
        let election = Election::new(&args.name, client).expect("the name was checked");
        if args.follow { Ok(follow(&args, &election).await) } else { Ok(once(&args, election.leader().await?)) }
    });
    outcome.await.unwrap_or_else(|exit| exit)
}

fn once(args: &LeaderArgs, leader: Option<Leader>) -> Exit {
    let exit = if leader.is_some() { Exit::OK } else { Exit::VACANT };
    let observation = leader.map_or(Observation::Vacant, Observation::Led);
    print(&line(args, &observation)).err().unwrap_or(exit)
}

/// Ends when the reader has gone, or by a signal.
async fn follow(args: &LeaderArgs, election: &Election) -> Exit {
    let mut observations = election.observe();
    while let Some(observation) = observations.next().await {
        if let Err(exit) = print(&line(args, &observation)) {
            return exit;
        }
    }
    Exit::OK
}

fn line(args: &LeaderArgs, observation: &Observation) -> String {
    let text = if args.json { json(args, observation) } else { sentence(args, observation) };
    text + "\n"
}

fn sentence(args: &LeaderArgs, observation: &Observation) -> String {
    let name = &args.name;
    match observation {
        Observation::Led(leader) => {
            let Leader { owner, data, token, led_for, .. } = leader;
            let data = data.as_ref().map(|data| format!(": {}", data.to_text())).unwrap_or_default();
            format!("{name} is led by {owner} with token {token} for {}{data}", shown(*led_for))
        }
        Observation::Unsure(error) => format!("{name} may have another leader by now: {error}"),
        _ => format!("{name} has no leader"),
    }
}

#[derive(Debug, Serialize)]
struct View<'a> {
    name: &'a str,
    state: &'static str,
    leader: Option<Leading<'a>>,
}

#[derive(Debug, Serialize)]
struct Leading<'a> {
    #[serde(flatten)]
    who: Who<'a>,
    token: u64,
    since: String,
    led_for_ms: u64,
    remaining_ms: u64,
}

fn json(args: &LeaderArgs, observation: &Observation) -> String {
    let state = match observation {
        Observation::Led(_) => "led",
        Observation::Unsure(_) => "unsure",
        _ => "vacant",
    };
    let leader = observation.leader().map(|leader| Leading {
        who: Who::new(&leader.owner, leader.data.as_ref()),
        token: leader.token.get(),
        since: since(leader.led_for),
        led_for_ms: millis(leader.led_for),
        remaining_ms: millis(leader.remaining),
    });
    let view = View { name: args.name.as_str(), state, leader };
    serde_json::to_string(&view).expect("every field of a view has a form in JSON")
}
