BEGIN TRANSACTION;
CREATE TABLE actors (
	actor_id VARCHAR(200) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	kind VARCHAR(400) NOT NULL, 
	role VARCHAR(400) NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	disabled BOOLEAN NOT NULL, 
	PRIMARY KEY (actor_id)
);
INSERT INTO "actors" VALUES('owner','Ada','person','admin',1795919279753563,0);
INSERT INTO "actors" VALUES('ben','Ben','person','approver',1795919279755891,0);
CREATE TABLE alarms (
	project VARCHAR(200) NOT NULL, 
	environment VARCHAR(200) NOT NULL, 
	alarm_id VARCHAR(200) NOT NULL, 
	endpoint VARCHAR(400) NOT NULL, 
	kind VARCHAR(400) NOT NULL, 
	state VARCHAR(400) NOT NULL, 
	text TEXT NOT NULL, 
	raised BIGINT NOT NULL, 
	closed BIGINT, 
	facts TEXT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, environment, alarm_id)
);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE aliases (
	project VARCHAR(200) NOT NULL, 
	model VARCHAR(200) NOT NULL, 
	alias VARCHAR(200) NOT NULL, 
	number BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, model, alias), 
	FOREIGN KEY(project, model, number) REFERENCES model_versions (project, model, number)
);
CREATE TABLE applied (
	project VARCHAR(200) NOT NULL, 
	environment VARCHAR(200) NOT NULL, 
	digest VARCHAR(400) NOT NULL, 
	definitions TEXT NOT NULL, 
	actor VARCHAR(400) NOT NULL, 
	event_time BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, environment)
);
CREATE TABLE approvals (
	project VARCHAR(200) NOT NULL, 
	approval_id VARCHAR(200) NOT NULL, 
	environment VARCHAR(400) NOT NULL, 
	subject VARCHAR(400) NOT NULL, 
	question TEXT NOT NULL, 
	state VARCHAR(400) NOT NULL, 
	asked_by VARCHAR(400) NOT NULL, 
	asked_time BIGINT NOT NULL, 
	decided_by VARCHAR(400), 
	decided_time BIGINT, 
	comment TEXT NOT NULL, 
	expires BIGINT, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, approval_id)
);
CREATE TABLE artifacts (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	path VARCHAR(1000) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	size BIGINT NOT NULL, 
	media_type VARCHAR(400) NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, run_id, path)
);
CREATE TABLE comments (
	project VARCHAR(200) NOT NULL, 
	comment_id VARCHAR(200) NOT NULL, 
	subject VARCHAR(400) NOT NULL, 
	actor VARCHAR(400) NOT NULL, 
	text TEXT NOT NULL, 
	event_time BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, comment_id)
);
CREATE TABLE cursors (
	project VARCHAR(200) NOT NULL, 
	reader VARCHAR(200) NOT NULL, 
	seq BIGINT NOT NULL, 
	PRIMARY KEY (project, reader)
);
CREATE TABLE dataset_versions (
	project VARCHAR(200) NOT NULL, 
	dataset VARCHAR(200) NOT NULL, 
	number BIGINT NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	delta_version BIGINT NOT NULL, 
	rows BIGINT NOT NULL, 
	added_rows BIGINT NOT NULL, 
	columns TEXT NOT NULL, 
	source VARCHAR(400) NOT NULL, 
	profile VARCHAR(64), 
	description TEXT NOT NULL, 
	tags TEXT NOT NULL, 
	event_time BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	known_until BIGINT, 
	PRIMARY KEY (project, dataset, number), 
	CONSTRAINT dataset_versions_digest UNIQUE (project, dataset, digest)
);
CREATE TABLE edges (
	project VARCHAR(200) NOT NULL, 
	child VARCHAR(200) NOT NULL, 
	parent VARCHAR(200) NOT NULL, 
	role VARCHAR(200) NOT NULL, 
	run_id VARCHAR(400), 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, child, parent, role)
);
INSERT INTO "edges" VALUES('flights','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','trained_on','run_1',1795919279768765);
CREATE TABLE events (
	project VARCHAR(200) NOT NULL, 
	event_id VARCHAR(200) NOT NULL, 
	environment VARCHAR(400) NOT NULL, 
	type VARCHAR(400) NOT NULL, 
	subject VARCHAR(400) NOT NULL, 
	actor VARCHAR(400) NOT NULL, 
	event_time BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	payload_digest VARCHAR(400) NOT NULL, 
	salt VARCHAR(32), 
	payload TEXT, 
	seq BIGINT, 
	hash VARCHAR(64), 
	PRIMARY KEY (project, event_id)
);
INSERT INTO "events" VALUES('','evt_01m8jj2xmc7wnzvfyfd1q9gtae','','treadle.actor.created','actor/ben','system',1364731200000000,1795919279756043,'5ae524d5a2c2a5f313f05e7ba3f2cfd86e16ceeb28fd9ed9c894b0ad043c6ebe','89d253ef54339a86b6b91d23d530f6be','{"actor_id":"ben","kind":"person","name":"Ben","role":"approver"}',1,'902ab7f02df357749268d934867739f66816d94facd593b18cc1e372d5874edd');
INSERT INTO "events" VALUES('flights','evt_01m8jj2xme8b7v77bv0vdrvs95','dev','treadle.run.created','run/run_1','system',1364731200000000,1795919279758131,'9e80ce6253c5aaf35a60b2ced39c3ff2938cd2e02e80a95abdb90897e79e7e1b','fd3b670c5f4e7aacd279236497fcf61e','{"code_digest":"","definition_digest":"","environment":"dev","environment_digest":"","experiment":"default","git_revision":null,"params":{"seed":7},"parent_run":null,"pipeline":"delay","project":"flights","project_digest":"","reason":{"event_id":null,"facts":{},"kind":"demand","text":"asked for","trigger":null},"run_id":"run_1","state":"queued"}',2,'2feb546a9e93a612cbeeee1de0ac69327d8b6fb30b626835df1cacd69aca1fd1');
INSERT INTO "events" VALUES('flights','evt_01m8jj2xmha6dkj159td8tbcmd','dev','treadle.run.moved','run/run_1','system',1364731200000000,1795919279761594,'5d3991e935ae69468eba87a4012f72d905e397b41b4d288fdab3df963d353a2c','d705f8c4c8a99ca4864ca9295ff6a0c5','{"error":null,"project":"flights","run_id":"run_1","state":"running"}',3,'ae42ffc47dd2352d4b97dddae4a800d63862038192ced19364a81bbc938ef661');
INSERT INTO "events" VALUES('flights','evt_own','','acme.x','x','system',1795919279769289,1795919279771386,'e7d24470635d8e22577d988ec58da70941adc2a9de3153787d4db76a4e8cb9ce','60167c258b67bb43a38ea9ff3e6325a8','{"n":1}',NULL,NULL);
CREATE TABLE experiment_tags (
	project VARCHAR(200) NOT NULL, 
	experiment_id VARCHAR(200) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (project, experiment_id, name)
)
 WITHOUT ROWID

;
CREATE TABLE experiments (
	project VARCHAR(200) NOT NULL, 
	experiment_id VARCHAR(200) NOT NULL, 
	name VARCHAR(500) NOT NULL, 
	folder VARCHAR(400) DEFAULT '' NOT NULL, 
	lifecycle VARCHAR(400) DEFAULT 'active' NOT NULL, 
	artifact_location TEXT NOT NULL, 
	description TEXT NOT NULL, 
	actor VARCHAR(400) NOT NULL, 
	created BIGINT NOT NULL, 
	updated BIGINT NOT NULL, 
	deleted BIGINT, 
	PRIMARY KEY (project, experiment_id), 
	CONSTRAINT experiments_name UNIQUE (project, name)
);
INSERT INTO "experiments" VALUES('flights','0','Default','','active','','','system',1795919279757134,1795919279757134,NULL);
CREATE TABLE firings (
	project VARCHAR(200) NOT NULL, 
	environment VARCHAR(200) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	event_time BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, environment, name, run_id)
);
CREATE TABLE grants (
	actor_id VARCHAR(200) NOT NULL, 
	project VARCHAR(200) NOT NULL, 
	environment VARCHAR(200) NOT NULL, 
	role VARCHAR(400) NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (actor_id, project, environment)
);
CREATE TABLE heads (
	seq BIGINT NOT NULL, 
	hash VARCHAR(64) NOT NULL, 
	sealed_time BIGINT NOT NULL, 
	PRIMARY KEY (seq)
);
INSERT INTO "heads" VALUES(3,'ae42ffc47dd2352d4b97dddae4a800d63862038192ced19364a81bbc938ef661',1795919279767537);
CREATE TABLE home (
	name VARCHAR(200) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "home" VALUES('home_id','home_01m8jj2xm1drtxjsx5xhfdptrk');
INSERT INTO "home" VALUES('owner','owner');
CREATE TABLE idempotency (
	scope VARCHAR(200) NOT NULL, 
	actor_id VARCHAR(200) NOT NULL, 
	idempotency_key VARCHAR(200) NOT NULL, 
	operation VARCHAR(400) NOT NULL, 
	request_digest VARCHAR(400) NOT NULL, 
	response TEXT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (scope, actor_id, idempotency_key)
);
CREATE TABLE jobs (
	project VARCHAR(200) NOT NULL, 
	job_id VARCHAR(200) NOT NULL, 
	environment VARCHAR(400) NOT NULL, 
	kind VARCHAR(400) NOT NULL, 
	state VARCHAR(400) NOT NULL, 
	payload TEXT NOT NULL, 
	due BIGINT NOT NULL, 
	priority INTEGER NOT NULL, 
	owner VARCHAR(400), 
	beat BIGINT NOT NULL, 
	attempt INTEGER NOT NULL, 
	max_attempts INTEGER NOT NULL, 
	error TEXT, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, job_id)
);
CREATE TABLE latest_metrics (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	experiment VARCHAR(400) NOT NULL, 
	created BIGINT NOT NULL, 
	step BIGINT NOT NULL, 
	time BIGINT NOT NULL, 
	value DOUBLE, 
	PRIMARY KEY (project, run_id, name)
)
 WITHOUT ROWID

;
INSERT INTO "latest_metrics" VALUES('flights','run_1','brier','0',1795919279757134,2,1364731200000000,0.15);
CREATE TABLE log_lines (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	number BIGINT NOT NULL, 
	step VARCHAR(400) NOT NULL, 
	level VARCHAR(400) NOT NULL, 
	text TEXT NOT NULL, 
	time BIGINT NOT NULL, 
	PRIMARY KEY (project, run_id, number)
);
CREATE TABLE logged_model_metrics (
	project VARCHAR(200) NOT NULL, 
	model_id VARCHAR(200) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	dataset_name VARCHAR(500) NOT NULL, 
	dataset_digest VARCHAR(200) NOT NULL, 
	step BIGINT NOT NULL, 
	time BIGINT NOT NULL, 
	experiment VARCHAR(400) NOT NULL, 
	value DOUBLE, 
	PRIMARY KEY (project, model_id, name, run_id, dataset_name, dataset_digest, step, time)
)
 WITHOUT ROWID

;
CREATE TABLE logged_model_params (
	project VARCHAR(200) NOT NULL, 
	model_id VARCHAR(200) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	experiment VARCHAR(400) NOT NULL, 
	value TEXT NOT NULL, 
	head VARCHAR(200) NOT NULL, 
	PRIMARY KEY (project, model_id, name)
)
 WITHOUT ROWID

;
CREATE TABLE logged_model_tags (
	project VARCHAR(200) NOT NULL, 
	model_id VARCHAR(200) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	experiment VARCHAR(400) NOT NULL, 
	value TEXT NOT NULL, 
	head VARCHAR(200) NOT NULL, 
	PRIMARY KEY (project, model_id, name)
)
 WITHOUT ROWID

;
CREATE TABLE logged_models (
	project VARCHAR(200) NOT NULL, 
	model_id VARCHAR(200) NOT NULL, 
	experiment VARCHAR(400) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	run_id VARCHAR(400) DEFAULT '' NOT NULL, 
	state VARCHAR(400) NOT NULL, 
	status_message TEXT NOT NULL, 
	model_type VARCHAR(400) DEFAULT '' NOT NULL, 
	lifecycle VARCHAR(400) DEFAULT 'active' NOT NULL, 
	artifact_location TEXT NOT NULL, 
	actor VARCHAR(400) NOT NULL, 
	created BIGINT NOT NULL, 
	updated BIGINT NOT NULL, 
	deleted BIGINT, 
	PRIMARY KEY (project, model_id)
);
CREATE TABLE metrics (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	step BIGINT NOT NULL, 
	time BIGINT NOT NULL, 
	value DOUBLE NOT NULL, 
	nan SMALLINT NOT NULL, 
	PRIMARY KEY (project, run_id, name, step, time, value, nan)
)
 WITHOUT ROWID

;
INSERT INTO "metrics" VALUES('flights','run_1','brier',0,1364731200000000,0.15,0);
INSERT INTO "metrics" VALUES('flights','run_1','brier',1,1364731200000000,0.15,0);
INSERT INTO "metrics" VALUES('flights','run_1','brier',2,1364731200000000,0.15,0);
CREATE TABLE model_numbers (
	project VARCHAR(200) NOT NULL, 
	model VARCHAR(200) NOT NULL, 
	last BIGINT NOT NULL, 
	PRIMARY KEY (project, model)
);
CREATE TABLE model_tags (
	project VARCHAR(200) NOT NULL, 
	model VARCHAR(200) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	value TEXT NOT NULL, 
	head VARCHAR(200) NOT NULL, 
	PRIMARY KEY (project, model, name)
)
 WITHOUT ROWID

;
CREATE TABLE model_versions (
	project VARCHAR(200) NOT NULL, 
	model VARCHAR(200) NOT NULL, 
	number BIGINT NOT NULL, 
	state VARCHAR(400) NOT NULL, 
	stage VARCHAR(400) DEFAULT 'None' NOT NULL, 
	bundle_digest VARCHAR(64), 
	run_id VARCHAR(400) DEFAULT '' NOT NULL, 
	source TEXT NOT NULL, 
	model_id VARCHAR(400) DEFAULT '' NOT NULL, 
	run_link VARCHAR(400) DEFAULT '' NOT NULL, 
	status VARCHAR(400) DEFAULT 'READY' NOT NULL, 
	status_message TEXT NOT NULL, 
	metrics TEXT NOT NULL, 
	gates TEXT NOT NULL, 
	description TEXT NOT NULL, 
	tags TEXT NOT NULL, 
	card TEXT NOT NULL, 
	pinned BOOLEAN NOT NULL, 
	downloads BIGINT NOT NULL, 
	actor VARCHAR(400) NOT NULL, 
	review_due BIGINT, 
	event_time BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	updated BIGINT NOT NULL, 
	PRIMARY KEY (project, model, number), 
	CONSTRAINT model_versions_bundle UNIQUE (project, model, bundle_digest, run_id)
);
CREATE TABLE models (
	project VARCHAR(200) NOT NULL, 
	model VARCHAR(200) NOT NULL, 
	description TEXT NOT NULL, 
	actor VARCHAR(400) NOT NULL, 
	tags TEXT NOT NULL, 
	card TEXT NOT NULL, 
	created BIGINT NOT NULL, 
	updated BIGINT NOT NULL, 
	PRIMARY KEY (project, model)
);
CREATE TABLE params (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	experiment VARCHAR(400) NOT NULL, 
	created BIGINT NOT NULL, 
	value TEXT NOT NULL, 
	head VARCHAR(200) NOT NULL, 
	PRIMARY KEY (project, run_id, name)
)
 WITHOUT ROWID

;
INSERT INTO "params" VALUES('flights','run_1','seed','0',1795919279757134,'7','7');
CREATE TABLE releases (
	project VARCHAR(200) NOT NULL, 
	environment VARCHAR(200) NOT NULL, 
	release_id VARCHAR(200) NOT NULL, 
	endpoint VARCHAR(400) NOT NULL, 
	model VARCHAR(400) NOT NULL, 
	from_version BIGINT, 
	to_version BIGINT NOT NULL, 
	strategy TEXT, 
	state VARCHAR(400) NOT NULL, 
	generation BIGINT NOT NULL, 
	actor VARCHAR(400) NOT NULL, 
	started BIGINT NOT NULL, 
	ended BIGINT, 
	verdict TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	facts TEXT NOT NULL, 
	approval_id VARCHAR(400), 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, environment, release_id)
);
CREATE TABLE retention_rules (
	project VARCHAR(200) NOT NULL, 
	rule_id VARCHAR(200) NOT NULL, 
	rule TEXT NOT NULL, 
	actor VARCHAR(400) NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, rule_id)
);
CREATE TABLE run_documents (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	document TEXT, 
	PRIMARY KEY (project, run_id)
);
CREATE TABLE run_inputs (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	name VARCHAR(500) NOT NULL, 
	digest VARCHAR(200) NOT NULL, 
	experiment VARCHAR(400) NOT NULL, 
	created BIGINT NOT NULL, 
	context VARCHAR(400) DEFAULT '' NOT NULL, 
	tags TEXT NOT NULL, 
	PRIMARY KEY (project, run_id, name, digest)
);
CREATE TABLE run_models (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	role VARCHAR(200) NOT NULL, 
	model_id VARCHAR(200) NOT NULL, 
	step BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, run_id, role, model_id)
);
CREATE TABLE runs (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	environment VARCHAR(400) NOT NULL, 
	experiment VARCHAR(400) NOT NULL, 
	pipeline VARCHAR(400) NOT NULL, 
	state VARCHAR(400) NOT NULL, 
	name VARCHAR(400) DEFAULT '' NOT NULL, 
	user_name VARCHAR(400) DEFAULT '' NOT NULL, 
	lifecycle VARCHAR(400) DEFAULT 'active' NOT NULL, 
	params TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	actor VARCHAR(400) NOT NULL, 
	definition_digest VARCHAR(400) NOT NULL, 
	project_digest VARCHAR(400) NOT NULL, 
	code_digest VARCHAR(400) NOT NULL, 
	environment_digest VARCHAR(400) NOT NULL, 
	git_revision VARCHAR(400), 
	parent_run VARCHAR(400), 
	event_time BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	created BIGINT NOT NULL, 
	started BIGINT, 
	ended BIGINT, 
	deleted BIGINT, 
	error TEXT, 
	PRIMARY KEY (project, run_id)
);
INSERT INTO "runs" VALUES('flights','run_1','dev','0','delay','running','','','active','{"seed":7}','{"kind":"demand","text":"asked for","trigger":null,"event_id":null,"facts":{}}','system','','','','',NULL,NULL,1364731200000000,1795919279757134,1795919279757134,1364731200000000,NULL,NULL,NULL);
CREATE TABLE saved_views (
	project VARCHAR(200) NOT NULL, 
	view_id VARCHAR(200) NOT NULL, 
	page VARCHAR(400) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	actor VARCHAR(400) NOT NULL, 
	"query" TEXT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, view_id)
);
CREATE TABLE snapshots (
	project VARCHAR(200) NOT NULL, 
	environment VARCHAR(200) NOT NULL, 
	generation BIGINT NOT NULL, 
	body TEXT NOT NULL, 
	event_time BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, environment, generation)
);
CREATE TABLE step_cache (
	project VARCHAR(200) NOT NULL, 
	cache_key VARCHAR(200) NOT NULL, 
	step VARCHAR(400) NOT NULL, 
	components TEXT NOT NULL, 
	output VARCHAR(64) NOT NULL, 
	content BLOB, 
	codec VARCHAR(400) NOT NULL, 
	run_id VARCHAR(400) NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, cache_key)
);
CREATE TABLE steps (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	path VARCHAR(200) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	state VARCHAR(400) NOT NULL, 
	cache_key VARCHAR(400) NOT NULL, 
	components TEXT NOT NULL, 
	why TEXT NOT NULL, 
	output VARCHAR(64), 
	content BLOB, 
	codec VARCHAR(400), 
	attempt INTEGER NOT NULL, 
	started BIGINT, 
	ended BIGINT, 
	worker VARCHAR(400), 
	error TEXT, 
	PRIMARY KEY (project, run_id, path)
);
CREATE TABLE tags (
	project VARCHAR(200) NOT NULL, 
	run_id VARCHAR(200) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	experiment VARCHAR(400) NOT NULL, 
	created BIGINT NOT NULL, 
	value TEXT NOT NULL, 
	head VARCHAR(200) NOT NULL, 
	PRIMARY KEY (project, run_id, name)
)
 WITHOUT ROWID

;
INSERT INTO "tags" VALUES('flights','run_1','owner','0',1795919279757134,'ada','ada');
CREATE TABLE tokens (
	token_id VARCHAR(200) NOT NULL, 
	actor_id VARCHAR(400) NOT NULL, 
	hash TEXT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	revoked_time BIGINT, 
	PRIMARY KEY (token_id)
);
CREATE TABLE tracked_datasets (
	project VARCHAR(200) NOT NULL, 
	experiment VARCHAR(200) NOT NULL, 
	name VARCHAR(500) NOT NULL, 
	digest VARCHAR(200) NOT NULL, 
	source_type VARCHAR(400) NOT NULL, 
	source TEXT NOT NULL, 
	schema TEXT, 
	profile TEXT, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, experiment, name, digest)
);
CREATE TABLE triggers (
	project VARCHAR(200) NOT NULL, 
	environment VARCHAR(200) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	cursor BIGINT NOT NULL, 
	last_fired BIGINT, 
	next_cron BIGINT, 
	facts TEXT NOT NULL, 
	PRIMARY KEY (project, environment, name)
);
CREATE TABLE uploads (
	project VARCHAR(200) NOT NULL, 
	upload_id VARCHAR(200) NOT NULL, 
	run_id VARCHAR(400) NOT NULL, 
	path VARCHAR(1000) NOT NULL, 
	parts TEXT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, upload_id)
);
CREATE TABLE version_tags (
	project VARCHAR(200) NOT NULL, 
	model VARCHAR(200) NOT NULL, 
	number BIGINT NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	value TEXT NOT NULL, 
	head VARCHAR(200) NOT NULL, 
	PRIMARY KEY (project, model, number, name)
)
 WITHOUT ROWID

;
CREATE TABLE versions (
	project VARCHAR(200) NOT NULL, 
	digest VARCHAR(200) NOT NULL, 
	kind VARCHAR(400) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	number BIGINT, 
	facts TEXT NOT NULL, 
	event_time BIGINT NOT NULL, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, digest)
);
INSERT INTO "versions" VALUES('flights','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','dataset','dataset',1,'{}',1364731200000000,1795919279768468);
INSERT INTO "versions" VALUES('flights','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','model','model',1,'{}',1364731200000000,1795919279768743);
CREATE TABLE webhook_deliveries (
	project VARCHAR(200) NOT NULL, 
	webhook_id VARCHAR(200) NOT NULL, 
	delivery_id VARCHAR(200) NOT NULL, 
	event_id VARCHAR(400) NOT NULL, 
	event VARCHAR(400) NOT NULL, 
	body TEXT NOT NULL, 
	state VARCHAR(400) NOT NULL, 
	attempts INTEGER NOT NULL, 
	due BIGINT NOT NULL, 
	status INTEGER, 
	error TEXT, 
	created BIGINT NOT NULL, 
	updated BIGINT NOT NULL, 
	PRIMARY KEY (project, webhook_id, delivery_id)
);
CREATE TABLE webhooks (
	project VARCHAR(200) NOT NULL, 
	webhook_id VARCHAR(200) NOT NULL, 
	name VARCHAR(400) NOT NULL, 
	url TEXT NOT NULL, 
	events TEXT NOT NULL, 
	description TEXT NOT NULL, 
	secret TEXT, 
	state VARCHAR(400) NOT NULL, 
	actor VARCHAR(400) NOT NULL, 
	created BIGINT NOT NULL, 
	updated BIGINT NOT NULL, 
	PRIMARY KEY (project, webhook_id)
);
CREATE TABLE windows (
	project VARCHAR(200) NOT NULL, 
	environment VARCHAR(200) NOT NULL, 
	endpoint VARCHAR(200) NOT NULL, 
	start BIGINT NOT NULL, 
	"end" BIGINT NOT NULL, 
	predictions BIGINT NOT NULL, 
	rejected BIGINT NOT NULL, 
	outcomes BIGINT NOT NULL, 
	champion BIGINT, 
	metrics TEXT NOT NULL, 
	drift TEXT NOT NULL, 
	facts TEXT NOT NULL, 
	profile BLOB, 
	recorded_time BIGINT NOT NULL, 
	PRIMARY KEY (project, environment, endpoint, start)
);
CREATE INDEX tokens_actor ON tokens (actor_id);
CREATE INDEX idempotency_age ON idempotency (recorded_time);
CREATE UNIQUE INDEX events_seq ON events (seq) WHERE seq IS NOT NULL;
CREATE INDEX events_subject_seq ON events (project, subject, seq);
CREATE INDEX events_unsealed ON events (recorded_time, event_id) WHERE seq IS NULL;
CREATE INDEX events_type_seq ON events (project, type, seq) WHERE seq IS NOT NULL;
CREATE INDEX events_project_seq ON events (project, seq) WHERE seq IS NOT NULL;
CREATE INDEX versions_kind_name ON versions (project, kind, name, number);
CREATE INDEX edges_parent ON edges (project, parent);
CREATE INDEX edges_run ON edges (project, run_id);
CREATE INDEX experiments_folder ON experiments (project, folder, name);
CREATE INDEX experiments_newest ON experiments (project, lifecycle, created, experiment_id);
CREATE INDEX runs_newest ON runs (project, recorded_time, run_id);
CREATE INDEX runs_name ON runs (project, experiment, lifecycle, name, created, run_id);
CREATE INDEX runs_parent ON runs (project, parent_run) WHERE parent_run IS NOT NULL;
CREATE INDEX runs_state ON runs (project, state, recorded_time);
CREATE INDEX runs_created ON runs (project, experiment, lifecycle, created, run_id);
CREATE INDEX runs_ended ON runs (project, experiment, lifecycle, ended, created, run_id);
CREATE INDEX runs_pipeline ON runs (project, pipeline, recorded_time);
CREATE INDEX runs_status ON runs (project, experiment, lifecycle, state, created, run_id);
CREATE INDEX runs_binned ON runs (project, deleted) WHERE deleted IS NOT NULL;
CREATE INDEX params_value ON params (project, experiment, name, head, created, run_id);
CREATE INDEX tags_value ON tags (project, experiment, name, head, created, run_id);
CREATE INDEX latest_metrics_value ON latest_metrics (project, experiment, name, value, created, run_id);
CREATE INDEX run_documents_wanted ON run_documents (project, run_id) WHERE document IS NULL;
CREATE INDEX artifacts_digest ON artifacts (digest);
CREATE INDEX uploads_age ON uploads (recorded_time);
CREATE INDEX run_inputs_name ON run_inputs (project, experiment, name, created, run_id);
CREATE INDEX run_inputs_digest ON run_inputs (project, experiment, digest, created, run_id);
CREATE INDEX run_models_model ON run_models (project, model_id);
CREATE INDEX logged_models_run ON logged_models (project, run_id);
CREATE INDEX logged_models_created ON logged_models (project, experiment, lifecycle, created, model_id);
CREATE INDEX logged_model_params_value ON logged_model_params (project, experiment, name, head, model_id);
CREATE INDEX logged_model_tags_value ON logged_model_tags (project, experiment, name, head, model_id);
CREATE INDEX logged_model_metrics_value ON logged_model_metrics (project, experiment, name, value, model_id);
CREATE INDEX logged_model_metrics_run ON logged_model_metrics (project, run_id);
CREATE INDEX saved_views_page ON saved_views (project, page, name);
CREATE INDEX webhooks_newest ON webhooks (project, created, webhook_id);
CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (project, created, delivery_id);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (state, due);
CREATE INDEX webhook_deliveries_event ON webhook_deliveries (project, event_id);
CREATE INDEX jobs_ready ON jobs (state, due, priority);
CREATE INDEX steps_output ON steps (output);
CREATE INDEX step_cache_run ON step_cache (project, run_id);
CREATE INDEX step_cache_step ON step_cache (project, step, recorded_time);
CREATE INDEX firings_time ON firings (project, environment, name, event_time);
CREATE INDEX firings_run ON firings (project, run_id);
CREATE INDEX models_updated ON models (project, updated, model);
CREATE INDEX model_tags_value ON model_tags (project, name, head);
CREATE INDEX model_versions_newest ON model_versions (project, recorded_time, model, number);
CREATE INDEX model_versions_run ON model_versions (project, run_id);
CREATE INDEX version_tags_value ON version_tags (project, name, head);
CREATE INDEX approvals_subject ON approvals (project, environment, subject);
CREATE INDEX approvals_state ON approvals (project, state, asked_time);
CREATE INDEX comments_subject ON comments (project, subject, event_time);
CREATE INDEX releases_state ON releases (state);
CREATE INDEX releases_endpoint ON releases (project, environment, endpoint, started);
CREATE INDEX alarms_endpoint ON alarms (project, environment, endpoint, raised);
COMMIT;
