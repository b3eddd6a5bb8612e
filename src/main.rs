//! A stand-in for trying the playground.
fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|a| a == "playground-container") {
        porthole::playground::container_main();
    }
    let program = std::env::current_exe()?;
    let isolation = if args.get(2).is_some_and(|a| a == "none") { porthole::playground::Isolation::None } else { porthole::playground::probe(&program) };
    println!("{isolation:?}");
    tokio::runtime::Runtime::new()?.block_on(async {
        let e = porthole::playground::Emulator::start(porthole::playground::Options {
            root: args.get(1).map(Into::into).unwrap_or("target/playground".into()),
            listen: "127.0.0.1:0".parse().unwrap(), isolation, program,
        }).await?;
        println!("{}", e.kubeconfig().display());
        tokio::signal::ctrl_c().await?;
        e.stop().await;
        Ok(())
    })
}
