//! Stores that are made once and copied for each schedule.
//!
//! A device makes fifty key packages before it can take part, which takes longer than all the rest
//! of a schedule. So each user's devices are made once a process, up to the moment at which they
//! have a request to upload their keys, and each scene once, up to the moment at which all are in
//! the group. Within a schedule all identities differ; between schedules they are the same, which
//! no schedule can tell.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;

use super::{
    app::{App, Kept},
    copies,
    dice::Dice,
    liar::{self, Liar},
    run::Run,
    schedule::{Scene, Schedule},
    violation::Violation,
    world::{Name, World},
};

/// How far the machines' clock is behind at first: OpenMLS looks at the real one, and a key package
/// must be valid on both.
const BEHIND: Duration = Duration::from_secs(60 * 86_400);

/// A device as a scene leaves it.
struct Still {
    name: Name,
    directory: PathBuf,
    kept: Kept,
}

struct SceneImage {
    world: World,
    devices: Vec<Still>,
    liar: Option<Liar>,
}

/// The images of one process.
pub struct Images {
    directory: TempDir,
    began_ms: u64,
    devices: BTreeMap<Name, PathBuf>,
    scenes: BTreeMap<Scene, SceneImage>,
    schedules: u64,
}

impl Scene {
    /// Users and how many devices they have; the first has made the room.
    fn devices(self) -> &'static [(usize, usize)] {
        match self {
            Self::Pair | Self::Bare | Self::PairAndLiar => &[(0, 1), (1, 1)],
            Self::Trio | Self::TrioAndLiar => &[(0, 1), (1, 1), (2, 1)],
            Self::Five | Self::FiveAndLiar => &[(0, 2), (1, 1), (2, 1), (3, 1)],
        }
    }

    fn has_liar(self) -> bool {
        matches!(self, Self::PairAndLiar | Self::TrioAndLiar | Self::FiveAndLiar)
    }
}

impl Images {
    /// No images yet; they are kept in memory where the system has a file system for that.
    pub fn new() -> Result<Self, Violation> {
        // Keys are random even here; event ids are not.
        matrix_mls::test_hooks::rank_epochs_by_event(true);
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let directory = tempfile::Builder::new()
            .prefix("matrix-mls-sim-")
            .tempdir_in(parent)
            .map_err(Violation::simulator)?;
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began_ms = u64::try_from(began.saturating_sub(BEHIND).as_millis());
        Ok(Self {
            directory,
            began_ms: began_ms.map_err(Violation::simulator)?,
            devices: BTreeMap::new(),
            scenes: BTreeMap::new(),
            schedules: 0,
        })
    }

    /// Puts a new device's store into a directory. The clock shows `now_ms` again afterwards.
    pub(super) async fn device(
        &mut self,
        name: &Name,
        directory: &Path,
        now_ms: u64,
    ) -> Result<(), Violation> {
        if !self.devices.contains_key(name) {
            let image = self.directory.path().join(format!("device-{}-{}", name.user, name.device));
            matrix_mls::test_hooks::set_clock_ms(self.began_ms);
            let mut app = App::new(name.clone(), image.clone());
            let machine = app.open().await.map_err(Violation::simulator)?;
            // There are no keys of this device's yet. The second call makes them.
            for request in machine.outgoing_requests().await.map_err(Violation::simulator)? {
                let answer = b"{\"device_keys\":{}}".to_vec();
                let answered = machine.mark_request_as_sent(request.id, 200, answer).await;
                answered.map_err(Violation::simulator)?;
            }
            machine.outgoing_requests().await.map_err(Violation::simulator)?;
            matrix_mls::test_hooks::set_clock_ms(now_ms);
            self.devices.insert(name.clone(), image);
        }
        copies::copy(&self.devices[name], directory)
    }

    /// A schedule at its beginning.
    pub(super) async fn begin(&mut self, schedule: &Schedule) -> Result<Run, Violation> {
        if !self.scenes.contains_key(&schedule.scene) {
            let image = self.arrange(schedule.scene).await?;
            self.scenes.insert(schedule.scene, image);
        }
        self.schedules += 1;
        let root = self.directory.path().join(format!("schedule-{}", self.schedules));
        let image = &self.scenes[&schedule.scene];
        let mut apps = Vec::new();
        for still in &image.devices {
            let directory = root.join(format!("{}-{}", still.name.user, still.name.device));
            copies::copy(&still.directory, &directory)?;
            let mut app = App::new(still.name.clone(), directory);
            app.kept = still.kept.clone();
            apps.push(app);
        }
        let world = image.world.clone();
        matrix_mls::test_hooks::set_clock_ms(world.now_ms);
        let mut run = Run::new(world, apps, root);
        let liar = image.liar.as_ref().map(Liar::copy).transpose();
        run.liar = liar.map_err(Violation::simulator)?;
        Ok(run)
    }

    /// Plays what leads up to a scene.
    async fn arrange(&mut self, scene: Scene) -> Result<SceneImage, Violation> {
        let root = self.directory.path().join(format!("scene-{scene:?}"));
        let mut world = World::new(self.began_ms);
        let mut dice = Dice::new(0);
        let mut apps = Vec::new();
        for (user, count) in scene.devices() {
            for number in 1..=*count {
                let name = Name { user: *user, device: format!("D{number}") };
                let directory = root.join(format!("{user}-D{number}"));
                self.device(&name, &directory, self.began_ms).await?;
                world.log_in(&name);
                apps.push(App::new(name, directory));
            }
        }
        world.create_room(&mut dice);
        let mut run = Run::new(world, apps, root);
        if scene.has_liar() {
            run.world.is_hostile = true;
            let liar = Liar::enter(&mut run.world, &mut dice).map_err(Violation::simulator)?;
            run.liar = Some(liar);
            run.world.invite(0, liar::USER, &mut dice);
        }
        for (user, _) in scene.devices().iter().skip(1) {
            run.world.invite(0, *user, &mut dice);
        }
        run.all_sync().await?;
        if scene != Scene::Bare {
            let room = run.room(0).await?;
            room.enable(Default::default()).await.map_err(Violation::simulator)?;
            drop(room);
            run.calmly(0, true, true).await?;
            run.all_sync().await?;
            let everybody = run.members(0).await?.len();
            if everybody != run.apps.len() + usize::from(scene.has_liar()) {
                return Err(Violation::simulator(format!("{everybody} are in the group")));
            }
        }
        if let Some(liar) = &mut run.liar {
            liar.follow(&mut run.world);
        }
        run.world.pass(1_000, &mut dice);
        let Run { world, apps, liar, .. } = run;
        let devices = apps
            .into_iter()
            .map(|app| Still { name: app.name, directory: app.directory, kept: app.kept })
            .collect();
        Ok(SceneImage { world, devices, liar })
    }
}
